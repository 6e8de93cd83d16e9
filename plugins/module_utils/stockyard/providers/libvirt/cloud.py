# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image made of a cloud image, booted once by its own boot loader: cloud-init puts our packages
and files in.

The machine of that boot is thrown away. It is QEMU's and no domain: nothing of it is on record. It
reaches nothing. What the guest hands over beside its disk, kernel and initramfs, lets templates
boot as those of packages do.
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
from . import debian, machine
from .preloaded import bring
from .run import run

MEMORY_MIB = 1024
LONGEST_FACTS = 1 << 16
# Sparse: it takes what is written to it.
RESULTS_BYTES = 1 << 30
TAIL = 3000
GIB = 1 << 30
_ROOT = re.compile(r"UUID=[0-9A-Fa-f-]{4,40}")
REMEDY = (
    "see that the image boots with a BIOS, has cloud-init, and is of the declared suite; "
    "give a slow machine a longer timeout"
)


def check(disk: Path, recipe: Recipe, deadline: Deadline, name: str) -> None:
    """See that a cloud image is a disk that stands for itself, and fits.

    :raises ImageError: when it is not, or does not.
    """
    described = run(
        ["qemu-img", "info", "-f", "qcow2", "--output=json", str(disk)],
        deadline,
        name=name,
        error=ImageError,
    )
    found = untrusted.mapping(untrusted.parse(described), "what qemu-img says")
    data_file = found.get("format-specific", {}).get("data", {}).get("data-file")
    if other := found.get("backing-filename") or data_file:
        raise ImageError(
            "the cloud image is not whole: it is kept in another file, too.",
            name=name,
            cause=str(other)[:200],
            remedy="give one that qemu-img convert has made whole",
        )
    if found["virtual-size"] > recipe.disk_gib * GIB:
        raise ImageError(
            f"the cloud image's disk has {found['virtual-size'] / GIB:.1f} GiB, and disk_gib is "
            f"{recipe.disk_gib}.",
            name=name,
            remedy=f"declare disk_gib: {-(-found['virtual-size'] // GIB)} or more",
        )


def parcel(
    found: dict[str, str],
    recipe: Recipe,
    build: BuildOptions,
    work: Path,
    deadline: Deadline,
    name: str,
) -> None:
    """Make the medium that cloud-init reads: its seed, the packages, our files, and what is
    preloaded.
    """
    folder = work / "parcel"
    folder.mkdir()
    for path, file in recipe.early.items():
        (folder / path.lstrip("/")).write_text(file.text)
    (work / "apt").mkdir()
    debian.download(found, recipe, build, work / "apt", folder / "packages", deadline, name)
    write_tar(folder / "files.tar", recipe.files)
    if recipe.preload:
        bring(build.preload, folder / "preload", deadline)
    line = [
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
    run([*line, "parcel"], deadline, name=name, error=ImageError, cwd=work)


def first_boot(base: Path, recipe: Recipe, work: Path, deadline: Deadline, name: str) -> str:
    """Boot a cloud image on a disk of its own until it is off again, and take what it hands over.

    :return: the kernel's name for the root file system.
    :raises ImageError: when it did not come to its end, with the end of what it said.
    :raises DeadlineExceeded: when it went on too long, with the same.
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
    """Names of files only: a directory's may hold a comma, which means something here."""
    kvm = machine.choose("auto", name).type == "kvm"
    # What boots anything: SeaBIOS, and a disk that each cloud's kernel knows. Without graphics it
    # talks to the console.
    return [
        # It ends with who builds, however that ends.
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
        # Without one, images wait two minutes for a network: this one gives an address and leads
        # nowhere.
        "-netdev",
        "user,id=net,restrict=on",
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        f"q35,graphics=off,accel={'kvm' if kvm else 'tcg'}",
        "-cpu",
        "host" if kvm else "max",
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
    """Take kernel and initramfs out of what was handed over."""
    try:
        with tarfile.open(work / "results.raw", "r:") as archive:
            for part in (KERNEL, INITRD, FACTS):
                source = archive.extractfile(part)
                if source is None:
                    raise ValueError(f"{part} is no file")
                (work / part).write_bytes(source.read())
        facts = untrusted.mapping(
            untrusted.parse((work / FACTS).read_bytes(), longest=LONGEST_FACTS), FACTS
        )
        root = untrusted.line(untrusted.item(facts, "root", FACTS), "root")
        if not _ROOT.fullmatch(root):
            raise ValueError(f"its root file system is {root!a}")
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise ImageError(
            "the cloud image's first boot did not come to its end.",
            name=name,
            cause=_console(work) or str(error),
            remedy=REMEDY,
        ) from error
    return root


def _console(work: Path) -> str:
    """The end of what our script said, or else of what the machine did; printable."""
    try:
        text = (work / "console.log").read_text(errors="replace")
    except OSError:
        return ""
    ours = text.rpartition(BEGIN)[2].partition(END)[0] if BEGIN in text else text
    return "".join(c for c in ours[-TAIL:] if c.isprintable() or c == "\n").strip()
