# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of templates and hosts: overlays on others, or copies."""

from __future__ import annotations

from pathlib import Path

from ...core.clock import Deadline
from .run import run


def make(target: Path, backing: Path, mode: str, name: str, deadline: Deadline) -> None:
    """The disk of a host, as its fork mode wants it."""
    if mode == "full":
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(backing), str(target)], deadline, name=name)
    else:
        overlay(target, backing, name, deadline)


def overlay(target: Path, backing: Path, name: str, deadline: Deadline) -> None:
    """A disk that holds only what differs from another one."""
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(target)]
    run(create, deadline, name=name)
