# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a cloud image, made of Debian's packages: a disk with partitions and a boot
loader, and cloud-init.

It has what gets in the way in real ones: netplan with DHCP on every interface, systemd-resolved, a
login of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from pathlib import Path

from stockyard.clock import Deadline
from stockyard.guest.archive import write_tar
from stockyard.model.image import BuildOptions
from stockyard.model.recipe import GuestFile, Recipe
from stockyard.providers.common import debian
from stockyard.providers.common.run import run
from stockyard.providers.libvirt.images import IN_NAMESPACE

PACKAGES = (
    "apt",
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "grub-common",
    "grub-pc-bin",
    "initramfs-tools",
    "iproute2",
    "linux-image-cloud-amd64",
    "netplan.io",
    "openssh-server",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
)
UUID = "6c1b9a52-0f0e-4bd1-9c37-5a3d0c8f2e10"
SECTOR, FIRST, SIZE_MIB = 512, 2048, 2500
FILES = {
    "/etc/fstab": GuestFile(f"UUID={UUID} / ext4 defaults 0 1\n"),
    "/etc/hosts": GuestFile("127.0.0.1 localhost\n"),
    "/etc/machine-id": GuestFile("uninitialized\n"),
    "/etc/netplan/90-default.yaml": GuestFile(
        "network: {version: 2, ethernets: {all: {match: {name: 'e*'}, dhcp4: true, dhcp6: "
        "true}}}\n",
        0o600,
    ),
    "/etc/ssh/sshd_config.d/50-cloud.conf": GuestFile(
        "PermitRootLogin yes\nPasswordAuthentication yes\n"
    ),
    "/etc/of-the-image": GuestFile("it was in the cloud image\n"),
}
ASSEMBLE = """
export PATH="$PATH:/usr/sbin:/sbin"
mkdir root
tar -xpf base.tar -C root --exclude='./dev/*'
tar -xpf files.tar -C root --keep-directory-symlink
rm -f root/etc/ssh/ssh_host_*
chroot root grub-mkimage -O i386-pc -o /boot/core.img -p '(hd0,msdos1)/boot/grub' \
  biosdisk part_msdos ext2 linux normal
mv root/boot/core.img .
cp root/usr/lib/grub/i386-pc/boot.img .
mkdir -p root/boot/grub
(cd root/boot && echo "linux /boot/$(ls vmlinuz-*) root=UUID=$1 ro console=tty0 console=ttyS0,115200
initrd /boot/$(ls initrd.img-*)
boot") > root/boot/grub/grub.cfg
mkfs.ext4 -q -L cloudimg-root -U "$1" -d root part.raw "$2M"
rm -rf root
"""


def image(folder: Path, suite: str = "bookworm", patience: float = 1200.0) -> Path:
    """The stand-in, made once for what it is made of."""
    content = hashlib.sha256(Path(__file__).read_bytes() + suite.encode()).hexdigest()[:16]
    image_file = folder / f"cloud-{content}.qcow2"
    if not image_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder))
        work.chmod(0o755)
        try:
            _make(work, suite, Deadline(patience)).rename(image_file)
        finally:
            run([*IN_NAMESPACE, "rm", "-rf", str(work / "root")], Deadline(60.0), name="stand-in")
            shutil.rmtree(work)
    return image_file


def overlay(target: Path, disk: Path) -> None:
    """A disk that is nothing without another one."""
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        str(disk),
        str(target),
    ]
    run(create, Deadline(60.0), name="stand-in")


def _make(work: Path, suite: str, deadline: Deadline) -> Path:
    recipe = Recipe(suite, PACKAGES, early={}, files={}, disk_gib=0)
    debian.bootstrap(recipe, BuildOptions(), work, deadline, "stand-in")
    write_tar(work / "files.tar", FILES)
    line = [*IN_NAMESPACE, "sh", "-euc", ASSEMBLE, "sh", UUID, str(SIZE_MIB)]
    run(line, deadline, name="stand-in", cwd=work)
    _partition(work)
    copy = [
        "dd",
        "if=part.raw",
        "of=disk.raw",
        "bs=1M",
        "seek=1",
        "conv=notrunc,sparse",
        "status=none",
    ]
    run(copy, deadline, name="stand-in", cwd=work)
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"]
    run(convert, deadline, name="stand-in", cwd=work)
    return work / "disk.qcow2"


def _partition(work: Path) -> None:
    """A disk with one partition and GRUB before it, as grub-bios-setup lays it down: no root is
    needed for a file.
    """
    loader, core = (work / "boot.img").read_bytes(), (work / "core.img").read_bytes()
    assert len(core) < (FIRST - 1) * SECTOR
    sectors = (SIZE_MIB << 20) // SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST, sectors)
    with (work / "disk.raw").open("wb") as disk:
        disk.write(loader[:440] + b"stky\0\0" + entry + bytes(48) + b"\x55\xaa" + core)
        os.truncate(disk.fileno(), (FIRST + sectors) * SECTOR)
