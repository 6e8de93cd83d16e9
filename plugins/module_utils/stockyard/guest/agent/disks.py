# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a Linux guest: found by their serial numbers, looked at by their bytes, and worked on by
e2fsprogs.
"""

from __future__ import annotations

import os
import struct
import subprocess
import time

from .volumes import BLANK, FILESYSTEM, SEALED

BLOCKS = "/sys/block"
# What the SCSI identifiers of volumes begin with on VMware, before the serial number: its own mark,
# then one of ours.
NAA = "6000c295cd00"
MOUNTS = "/proc/self/mountinfo"
POLL = 0.05
LOOKED_AT, SAMPLES, SAMPLE = 4 << 20, 64, 4096
# struct ext4_super_block of fs/ext4/ext4.h: where it is, its magic number, how many blocks, of
# which size.
SUPERBLOCK, MAGIC_AT, MAGIC = 1024, 0x38, 0xEF53
BLOCKS_LOW, BLOCK_SIZE, BLOCKS_HIGH, FEATURES, BITS_64 = 0x04, 0x18, 0x150, 0x60, 0x80
# e2fsck(8): 1 is "errors corrected".
MENDED = 1
LONG, FSCK = 60, 900
# LUKS On-Disk Format Specification: the first bytes of either version.
LUKS = b"LUKS\xba\xbe"
MAPPER = "/dev/mapper"
# cryptsetup(8): "no permission (bad passphrase)".
WRONG_KEY = 2
UNKNOWN = "unknown"


class LinuxDisks:
    """The real thing."""

    def find(self, serial: str, patience: float) -> str:
        end = time.monotonic() + patience
        while True:
            for name in sorted(os.listdir(BLOCKS)):
                if _is(f"{BLOCKS}/{name}", serial) and os.path.exists(f"/dev/{name}"):
                    return f"/dev/{name}"
            if time.monotonic() > end:
                raise TimeoutError(
                    f"no disk with serial number {serial} appeared within {patience:g} s"
                )
            time.sleep(POLL)

    def content(self, device: str) -> str:
        with open(device, "rb", buffering=0) as disk:
            if _at(disk.fileno(), 0, len(LUKS)) == LUKS:
                return SEALED
            if struct.unpack_from("<H", _at(disk.fileno(), SUPERBLOCK, 1024), MAGIC_AT)[0] == MAGIC:
                return FILESYSTEM
            size = disk.seek(0, os.SEEK_END)
            step = max(SAMPLE, size // SAMPLES)
            places = [
                (0, LOOKED_AT),
                (max(0, size - LOOKED_AT), LOOKED_AT),
                *((n, SAMPLE) for n in range(0, size, step)),
            ]
            return (
                UNKNOWN
                if any(_at(disk.fileno(), at, length).strip(b"\0") for at, length in places)
                else BLANK
            )

    def seal(self, device: str, key: str) -> None:
        # The key is of 256 random bits: stretching it would only cost time.
        quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        _run(
            [
                "cryptsetup",
                "luksFormat",
                "--batch-mode",
                "--type",
                "luks2",
                *quick,
                "--key-file",
                "-",
                device,
            ],
            FSCK,
            key,
        )

    def unlock(self, device: str, serial: str, key: str) -> str:
        name = f"stockyard-{serial}"
        place = os.path.join(MAPPER, name)
        if os.path.exists(place):
            _unlocked(["resize", name], key)
        else:
            # What is deleted on it is given back to the hypervisor, who sees which blocks are in
            # use.
            _unlocked(["open", "--allow-discards", device, name], key)
        return f"/dev/{os.path.basename(os.path.realpath(place))}"

    def lock(self, serial: str) -> None:
        name = f"stockyard-{serial}"
        if os.path.exists(os.path.join(MAPPER, name)):
            _run(["cryptsetup", "close", name], LONG)

    def make(self, device: str, uuid: str) -> None:
        # The kernel makes the tables later, by telling the disk that they are zero: that allocates
        # nothing.
        lazy = "lazy_itable_init=1,lazy_journal_init=1"
        _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-U", uuid, "-E", lazy, device], LONG)
        os.sync()

    def check(self, device: str) -> None:
        done = subprocess.run(
            ["e2fsck", "-p", device], capture_output=True, text=True, timeout=FSCK, check=False
        )
        if done.returncode > MENDED:
            raise OSError(
                f"e2fsck of {device} ended with {done.returncode}: "
                f"{(done.stdout + done.stderr)[-500:]}"
            )

    def mounted(self, path: str) -> str:
        number = ""
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as handle:
            for words in map(str.split, handle):
                if words[4] == path:
                    number = words[2]
        return (
            f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{number}'))}"
            if number
            else ""
        )

    def mount(self, device: str, path: str) -> None:
        # What is deleted on it is given back to the hypervisor.
        _run(["mount", "-t", FILESYSTEM, "-o", "discard", device, path], LONG)

    def unmount(self, path: str) -> None:
        _run(["umount", path], LONG)

    def grow(self, device: str) -> bool:
        _rescan(device)
        with open(device, "rb", buffering=0) as disk:
            size, block = disk.seek(0, os.SEEK_END), _at(disk.fileno(), SUPERBLOCK, 1024)
            shift = struct.unpack_from("<I", block, BLOCK_SIZE)[0]
        if size - (_blocks(block) << (10 + shift)) < 1 << 20:
            return False
        _run(["resize2fs", device], FSCK)
        return True

    def stop_engine(self) -> None:
        _run(["systemctl", "stop", "docker.socket", "docker.service"], LONG)


def _rescan(device: str) -> None:
    """Let a SCSI disk be asked for its size again: nobody tells the kernel that it grew."""
    place = f"{BLOCKS}/{os.path.basename(device)}/device/rescan"
    if os.path.exists(place):
        with open(place, "w", encoding="ascii") as handle:
            handle.write("1")


def _blocks(superblock: bytes) -> int:
    low = int(struct.unpack_from("<I", superblock, BLOCKS_LOW)[0])
    wide = struct.unpack_from("<I", superblock, FEATURES)[0] & BITS_64
    return low | (int(struct.unpack_from("<I", superblock, BLOCKS_HIGH)[0]) << 32 if wide else 0)


def _at(handle: int, offset: int, length: int) -> bytes:
    """Bytes of a disk; zeroes where it ends before."""
    return os.pread(handle, length, offset).ljust(min(length, 1024), b"\0")


def _is(block: str, serial: str) -> bool:
    """Whether a disk is the one: a virtio disk has a serial number, a SCSI disk of VMware's a world
    wide name.
    """
    return serial in (
        _text(f"{block}/serial"),
        _text(f"{block}/device/wwid").lower().removeprefix(f"naa.{NAA}"),
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def _unlocked(argv: list[str], key: str) -> None:
    done = _ran(["cryptsetup", *argv, "--key-file", "-"], FSCK, key)
    if done.returncode == WRONG_KEY:
        raise PermissionError("no key of this disk is the one that was given")
    _check(argv[0], done)


def _run(argv: list[str], patience: float, said: str = "") -> None:
    _check(argv[0], _ran(argv, patience, said))


def _ran(argv: list[str], patience: float, said: str) -> subprocess.CompletedProcess[str]:
    """Run a program. What is secret it is told on its standard input, where no list of processes
    shows it.
    """
    return subprocess.run(
        argv, input=said, capture_output=True, text=True, timeout=patience, check=False
    )


def _check(name: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise OSError(
            f"{name} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
        )
