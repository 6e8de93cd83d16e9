# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a Linux guest: identified by serial number, examined by their bytes, and changed with
e2fsprogs and cryptsetup.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import time

from . import engine
from .volumes import BLANK, ENCRYPTED, FILESYSTEM

BLOCKS = "/sys/block"
# The prefix of the SCSI identifiers of volumes on VMware, before the serial number: VMware's mark,
# then stockyard's.
NAA = "6000c295cd00"
PROC = "/proc"
MOUNTS = "/proc/self/mountinfo"
POLL = 0.05
PROBED, SAMPLES, SAMPLE = 4 << 20, 64, 4096
# struct ext4_super_block of fs/ext4/ext4.h: its offset, its magic number, and the offsets of the
# number and size of blocks.
SUPERBLOCK, MAGIC_AT, MAGIC = 1024, 0x38, 0xEF53
BLOCKS_LOW, BLOCK_SIZE, BLOCKS_HIGH, FEATURES, BITS_64 = 0x04, 0x18, 0x150, 0x60, 0x80
# e2fsck(8): exit status 1 is "errors corrected".
CORRECTED = 1
LONG, FSCK = 60, 900
# LUKS On-Disk Format Specification: the first bytes of either version.
LUKS = b"LUKS\xba\xbe"
MAPPER = "/dev/mapper"
# Option of the kernel, see its kernel-parameters.txt.
COMMAND_LINE, ZEROING = "/proc/cmdline", "init_on_free=1"
# cryptsetup(8): exit status 2 is "no permission (bad passphrase)".
WRONG_KEY = 2
UNKNOWN = "unknown"


class LinuxDisks:
    """The disks of a Linux guest."""

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
                return ENCRYPTED
            if struct.unpack_from("<H", _at(disk.fileno(), SUPERBLOCK, 1024), MAGIC_AT)[0] == MAGIC:
                return FILESYSTEM
            size = disk.seek(0, os.SEEK_END)
            step = max(SAMPLE, size // SAMPLES)
            samples = [
                (0, PROBED),
                (max(0, size - PROBED), PROBED),
                *((start, SAMPLE) for start in range(0, size, step)),
            ]
            return (
                UNKNOWN
                if any(
                    _at(disk.fileno(), offset, length).strip(b"\0") for offset, length in samples
                )
                else BLANK
            )

    def encrypt(self, device: str, key: str) -> None:
        # The key has 256 random bits: key stretching would only cost time.
        key_options = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        _run(
            [
                "cryptsetup",
                "luksFormat",
                "--batch-mode",
                "--type",
                "luks2",
                *key_options,
                "--key-file",
                "-",
                device,
            ],
            FSCK,
            key,
        )

    def unlock(self, device: str, serial: str, key: str) -> str:
        name = f"stockyard-{serial}"
        mapped = os.path.join(MAPPER, name)
        if os.path.exists(mapped):
            _unlocked(["resize", name], key)
        else:
            # Discards return the blocks of deleted files to the hypervisor, which can thereby
            # observe which blocks are in use.
            _unlocked(["open", "--allow-discards", device, name], key)
        return f"/dev/{os.path.basename(os.path.realpath(mapped))}"

    def lock(self, serial: str) -> None:
        name = f"stockyard-{serial}"
        if os.path.exists(os.path.join(MAPPER, name)):
            _run(["cryptsetup", "close", name], LONG)

    def format(self, device: str, uuid: str) -> None:
        # The kernel initializes the tables later, by write-zeroes requests, which allocate no
        # blocks.
        lazy_options = "lazy_itable_init=1,lazy_journal_init=1"
        _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-U", uuid, "-E", lazy_options, device], LONG)
        os.sync()

    def check(self, device: str) -> None:
        process = subprocess.run(
            ["e2fsck", "-p", device], capture_output=True, text=True, timeout=FSCK, check=False
        )
        if process.returncode > CORRECTED:
            raise OSError(
                f"e2fsck of {device} ended with {process.returncode}: "
                f"{(process.stdout + process.stderr)[-500:]}"
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
        # Discards return the blocks of deleted files to the hypervisor.
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

    def zeroes_freed_memory(self) -> bool:
        with open(COMMAND_LINE, encoding="utf-8", errors="replace") as handle:
            return ZEROING in handle.read().split()

    def stop_engine(self) -> None:
        _run(["systemctl", "stop", "docker.socket", "docker.service"], LONG)

    def stop_users(self, path: str) -> None:
        engine.stop_users(path)
        device = os.stat(path).st_dev
        if not os.path.ismount(path):
            return
        end = time.monotonic() + LONG
        while pids := _users_of(device):
            if time.monotonic() > end:
                raise TimeoutError(f"processes that use {path} did not end: {pids[:10]}")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL)


def _users_of(device: int) -> list[int]:
    """Return the processes that have a file, a directory or a mapping of a file system.

    Paths would prove nothing: a process in a container can have the same path of another file
    system.

    :param device: the device number of the file system.
    """
    return [
        int(entry)
        for entry in os.listdir(PROC)
        if entry.isdigit() and int(entry) != os.getpid() and _uses(f"{PROC}/{entry}", device)
    ]


def _uses(process: str, device: int) -> bool:
    try:
        links = [f"{process}/{name}" for name in ("cwd", "root", "exe")]
        links += [f"{process}/fd/{name}" for name in os.listdir(f"{process}/fd")]
        with open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as handle:
            # proc(5): the fourth word is the device number of the mapped file.
            numbers = {line.split(None, 4)[3] for line in handle}
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    if f"{os.major(device):02x}:{os.minor(device):02x}" in numbers:
        return True
    for link in links:
        with contextlib.suppress(OSError):
            if os.stat(link).st_dev == device:
                return True
    return False


def _rescan(device: str) -> None:
    """Read the size of a SCSI disk again: the kernel gets no event when the disk grows."""
    control = f"{BLOCKS}/{os.path.basename(device)}/device/rescan"
    if os.path.exists(control):
        with open(control, "w", encoding="ascii") as handle:
            handle.write("1")


def _blocks(superblock: bytes) -> int:
    low = int(struct.unpack_from("<I", superblock, BLOCKS_LOW)[0])
    is_64_bit = struct.unpack_from("<I", superblock, FEATURES)[0] & BITS_64
    return low | (
        int(struct.unpack_from("<I", superblock, BLOCKS_HIGH)[0]) << 32 if is_64_bit else 0
    )


def _at(handle: int, offset: int, length: int) -> bytes:
    """Return bytes of a disk, padded with zeroes to at most 1,024 bytes if the disk is shorter."""
    return os.pread(handle, length, offset).ljust(min(length, 1024), b"\0")


def _is(block: str, serial: str) -> bool:
    """Return whether a disk has this serial number. On a virtio disk it is the serial number, on a
    SCSI disk of VMware's a part of the world wide name.
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
    process = _ran(["cryptsetup", *argv, "--key-file", "-"], FSCK, key)
    if process.returncode == WRONG_KEY:
        raise PermissionError("no key of this disk is the one that was given")
    _check(argv[0], process)


def _run(argv: list[str], patience: float, stdin: str = "") -> None:
    _check(argv[0], _ran(argv, patience, stdin))


def _ran(argv: list[str], patience: float, stdin: str) -> subprocess.CompletedProcess[str]:
    """Run a program. Secrets go to its standard input: lists of processes show arguments."""
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=patience, check=False
    )


def _check(name: str, process: subprocess.CompletedProcess[str]) -> None:
    if process.returncode:
        raise OSError(
            f"{name} ended with {process.returncode}: "
            f"{(process.stderr or process.stdout).strip()[-500:]}"
        )
