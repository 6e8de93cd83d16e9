# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest image that is built from a cloud image.

The cloud image is booted once by its own boot loader, and cloud-init installs stockyard's packages
and files. The machine of that boot is a QEMU process without a domain or a record, has no network
access and is deleted afterwards. The guest returns its disk, kernel and initramfs, so that
templates boot as those of package images do.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

from ...clock import Deadline
from ...errors import DeadlineExceeded, ImageError
from ...guest.archive import write_tar
from ...guest.cloud import BEGIN, END, FACTS, INITRD, KERNEL, RESULTS, VOLUME
from ...model import untrusted
from ...model.image import BuildOptions
from ...model.recipe import Recipe
from ...model.template import Hardware
from ..common import debian
from ..common.preloaded import write_items
from ..common.run import run
from . import machine

MEMORY_MIB = 1024
LONGEST_FACTS = 1 << 16
# A sparse file: it uses only as much space as is written to it.
RESULTS_BYTES = 1 << 30
TAIL = 3000
GIB = 1 << 30
# The instruction cmpxchg16b, which QEMU before 8.0 emulates with wrong flags (see designer.py). The
# image has its own kernel options, so the processor does not have it.
DAMAGING = "cx16"
_ROOT = re.compile(r"UUID=[0-9A-Fa-f-]{4,40}")
REMEDY = (
    "check that the image boots with a BIOS, has cloud-init, and is of the declared suite; "
    "set a longer timeout on a slow machine"
)


def check(disk: Path, recipe: Recipe, deadline: Deadline, name: str) -> None:
    """Check that a cloud image is a self-contained disk that fits into the declared size.

    :raises ImageError: if the disk depends on another file or is too large.
    """
    output = run(
        ["qemu-img", "info", "-f", "qcow2", "--output=json", str(disk)],
        deadline,
        name=name,
        error=ImageError,
    )
    disk_info = untrusted.mapping(untrusted.parse(output), "the output of qemu-img")
    data_file = disk_info.get("format-specific", {}).get("data", {}).get("data-file")
    if external_file := disk_info.get("backing-filename") or data_file:
        raise ImageError(
            "the cloud image is incomplete: it refers to another file.",
            name=name,
            cause=str(external_file)[:200],
            remedy="convert the image to one file with qemu-img convert",
        )
    if disk_info["virtual-size"] > recipe.disk_gib * GIB:
        raise ImageError(
            f"the cloud image's disk has {disk_info['virtual-size'] / GIB:.1f} GiB, and disk_gib "
            f"is {recipe.disk_gib}.",
            name=name,
            remedy=f"declare disk_gib: {-(-disk_info['virtual-size'] // GIB)} or more",
        )


def parcel(
    package_versions: dict[str, str],
    recipe: Recipe,
    build: BuildOptions,
    work: Path,
    deadline: Deadline,
    name: str,
) -> None:
    """Create the medium of cloud-init: seed, packages, stockyard's files and preloaded items."""
    folder = work / "parcel"
    folder.mkdir()
    for path, file in recipe.early.items():
        (folder / path.lstrip("/")).write_text(file.text)
    (work / "apt").mkdir()
    debian.download(
        package_versions, recipe, build, work / "apt", folder / "packages", deadline, name
    )
    write_tar(folder / "files.tar", recipe.files)
    if recipe.preload:
        write_items(build.preload, folder / "preload", deadline)
    command = [
        "xorrisofs",
        "-quiet",
        "-V",
        VOLUME,
        "-r",
        "-J",
        "-joliet-long",
        "-iso-level",
        "3",
        "-o",
        "parcel.iso",
    ]
    run([*command, "parcel"], deadline, name=name, error=ImageError, cwd=work)


def first_boot(base: Path, recipe: Recipe, work: Path, deadline: Deadline, name: str) -> str:
    """Boot a cloud image on a disk of its own until it is off again, and read the results.

    :return: the kernel's name for the root file system.
    :raises ImageError: if the boot did not complete, with the end of the console output.
    :raises DeadlineExceeded: if the boot took too long, with the end of the console output.
    """
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        str(base),
        "first.qcow2",
    ]
    run([*create, f"{recipe.disk_gib}G"], deadline, name=name, error=ImageError, cwd=work)
    with (work / "results.raw").open("wb") as results:
        results.truncate(RESULTS_BYTES)
    try:
        run(_qemu(name), deadline, name=name, error=ImageError, cwd=work)
    except DeadlineExceeded as error:
        raise DeadlineExceeded(
            "the cloud image's first boot did not end in time.",
            name=name,
            cause=_console(work),
            remedy=REMEDY,
        ) from error
    root = _harvest(work, name)
    convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "first.qcow2", "disk.qcow2"]
    run(convert, deadline, name=name, error=ImageError, cwd=work)
    return root


def _qemu(name: str) -> list[str]:
    """Return the command of the first boot.

    It contains names of files only: the path of a directory may contain a comma, which separates
    options of QEMU.
    """
    chosen = machine.choose(Hardware(), name)
    kvm = chosen.type == "kvm"
    emulated = ["max", *(f"{feature}=off" for feature in (*chosen.disabled_features, DAMAGING))]
    # Hardware that boots any cloud image: SeaBIOS, and a disk that each cloud's kernel supports.
    # Without graphics SeaBIOS writes to the console.
    return [
        # The process ends when its parent, the builder, ends for any reason.
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "qemu-system-x86_64",
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        # Without a network card, images wait two minutes for a network: this network provides an
        # address and leads nowhere.
        "-netdev",
        "user,id=net,restrict=on",
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        f"q35,graphics=off,accel={'kvm' if kvm else 'tcg'}",
        "-cpu",
        "host" if kvm else ",".join(emulated),
        "-m",
        str(MEMORY_MIB),
        "-smp",
        str(min(2, os.cpu_count() or 1)),
        "-drive",
        (
            "file=first.qcow2,format=qcow2,if=none,id=disk,discard=unmap,"
            "detect-zeroes=unmap,cache=unsafe"
        ),
        "-device",
        "virtio-blk-pci,drive=disk,bootindex=1",
        "-drive",
        "file=parcel.iso,format=raw,if=none,id=parcel,readonly=on",
        "-device",
        "virtio-blk-pci,drive=parcel",
        "-drive",
        "file=results.raw,format=raw,if=none,id=results",
        "-device",
        f"virtio-blk-pci,drive=results,serial={RESULTS}",
        "-device",
        "virtio-rng-pci",
        "-serial",
        "file:console.log",
    ]


def _harvest(work: Path, name: str) -> str:
    """Extract kernel and initramfs from the first boot's results; return the root file system."""
    try:
        with tarfile.open(work / "results.raw", "r:") as archive:
            for part in (KERNEL, INITRD, FACTS):
                source = archive.extractfile(part)
                if source is None:
                    raise ValueError(f"{part} is not a file")
                (work / part).write_bytes(source.read())
        facts = untrusted.mapping(
            untrusted.parse((work / FACTS).read_bytes(), longest=LONGEST_FACTS), FACTS
        )
        root = untrusted.line(untrusted.item(facts, "root", FACTS), "root")
        if not _ROOT.fullmatch(root):
            raise ValueError(f"its root file system is {root!a}")
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise ImageError(
            "the cloud image's first boot failed before its end.",
            name=name,
            cause=_console(work) or str(error),
            remedy=REMEDY,
        ) from error
    return root


def _console(work: Path) -> str:
    """Return the printable end of the build script's output, else of the console's."""
    try:
        text = (work / "console.log").read_text(errors="replace")
    except OSError:
        return ""
    script_output = text.rpartition(BEGIN)[2].partition(END)[0] if BEGIN in text else text
    return "".join(
        character
        for character in script_output[-TAIL:]
        if character.isprintable() or character == "\n"
    ).strip()
