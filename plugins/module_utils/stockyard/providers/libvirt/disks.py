# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of templates and hosts: overlays on others, or copies."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ...clock import Deadline
from ...files import move
from ..common.run import run
from .layers import virtual_size

MAGIC = b"QFI\xfb"
# Exit status of qemu-img check for a disk whose tables contradict themselves (qemu-img(1)).
CORRUPT = 2


def make(target: Path, backing: Path, mode: str, name: str, deadline: Deadline) -> None:
    """Create the disk of a host, according to its fork mode."""
    if mode == "full":
        run(
            ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(backing), str(target)],
            deadline,
            name=name,
        )
    else:
        overlay(target, backing, name, deadline)


def empty(target: Path, like: Path, name: str, deadline: Deadline) -> None:
    """Create an empty disk that is as large as another one for its guest."""
    size = str(virtual_size(like))
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(target), size], deadline, name=name)


def overlay(
    target: Path, backing: Path, name: str, deadline: Deadline, *, cluster_kib: int = 64
) -> None:
    """Create a disk that contains only differences from another disk.

    :param cluster_kib: the size of the disk's smallest part. The disk keeps the content of a
        smaller part that its guest discards.
    """
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        f"cluster_size={cluster_kib}k",
        "-F",
        "qcow2",
        "-b",
        str(backing),
        str(target),
    ]
    run(create, deadline, name=name)


def flatten(disk: Path, name: str, deadline: Deadline) -> None:
    """Replace a disk that lies over others by one with the same content alone."""
    flat_disk = disk.with_suffix(".flat")
    make(flat_disk, disk, "full", name, deadline)
    move(flat_disk, disk)


def copy(source: Path, target: Path, name: str, deadline: Deadline) -> None:
    """Copy a disk or a RAM file with its holes; on a file system with reflinks no data is moved."""
    run(["cp", "--reflink=auto", "--sparse=always", str(source), str(target)], deadline, name=name)
    target.chmod(0o600)


def damage(disk: Path, deadline: Deadline) -> str:
    """Return the reason why a disk can never be used again; empty if damage is not proven.

    A missing directory proves nothing: its file system may not be mounted.
    """
    if not disk.parent.is_dir():
        return ""
    try:
        with disk.open("rb") as handle:
            if handle.read(len(MAGIC)) != MAGIC:
                return "its disk is not in QEMU's format"
        check = ["qemu-img", "check", "-q", "-f", "qcow2", str(disk)]
        process = subprocess.run(
            check, capture_output=True, text=True, timeout=deadline.left(), check=False
        )
    except FileNotFoundError as error:
        return "its disk is missing" if error.filename == str(disk) else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (
        f"its disk is damaged ({process.stderr.strip()[-500:]})"
        if process.returncode == CORRUPT
        else ""
    )
