# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a frozen template: sealed once, and looked at before anything is forked from them.

A fork reads them as long as it lives, so a changed one would corrupt every host on it. Size and
time of change are compared each time; the checksum is computed again only where these differ (a
restored backup may well be whole).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...clock import Deadline
from ...errors import ImageError
from ...model.template import TemplateRecord
from .run import run

PARTS = ("state", "ram", "disk.qcow2")
STAMP = "stamp:"
# Seconds to read through a RAM file.
DIG = 300.0


def seal(folder: Path, name: str) -> dict[str, str]:
    """Make holes of zeroes in the RAM file; take checksums and stamps, and the right to write.

    The RAM file keeps 0600: QEMU before 8.2 opens it for writing even to map it privately.
    """
    # Sparse again, before anybody counts on the file: the guest left its free memory zeroed.
    run(["fallocate", "--dig-holes", str(folder / "ram")], Deadline(DIG), name=name)
    sums = {part: checksum(folder / part) for part in PARTS}
    for part in ("state", "disk.qcow2"):
        (folder / part).chmod(0o400)
    return sums | {STAMP + part: _stamp(folder / part) for part in PARTS}


def problem(folder: Path, record: TemplateRecord) -> str:
    """What is wrong with a frozen template's files, in words; nothing when they are as they were
    sealed.
    """
    sums = record.checksums or {}
    for part in PARTS:
        path = folder / part
        if not path.exists():
            return f"its file {path} is gone"
        if sums.get(STAMP + part) not in (None, _stamp(path)) and sums.get(part) != checksum(path):
            return f"its file {path} was changed after it was frozen (the checksum differs)"
    return ""


def verify(folder: Path, record: TemplateRecord) -> None:
    """Refuse to fork from files that are not what was frozen.

    :raises ImageError: naming the file.
    """
    wrong = problem(folder, record)
    if wrong:
        remedy = "build the template again, or restore the file from a backup"
        raise ImageError("the template is damaged.", name=record.title, cause=wrong, remedy=remedy)


def sizes(folder: Path, image: Path) -> dict[str, float]:
    """MiB of the hypervisor's disk that a template takes; of its image too, which
    others may share.
    """
    parts = {
        "disk": folder / "disk.qcow2",
        "ram": folder / "ram",
        "state": folder / "state",
        "image": image,
    }
    return {f"{name}_mib": _on_disk(path) for name, path in parts.items()}


def _on_disk(path: Path) -> float:
    try:
        return round(path.stat().st_blocks * 512 / (1 << 20), 1)
    except FileNotFoundError:
        return 0.0


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex; holes are read as zeroes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"
