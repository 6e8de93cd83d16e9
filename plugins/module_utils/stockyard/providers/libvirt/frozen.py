# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a frozen template: frozen once, and verified before every fork.

A fork reads these files as long as it exists, so a changed file would corrupt every host on it.
Size and time of change are compared each time; the checksum is computed again only if these differ
(the files of a restored backup may be intact).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from ...clock import Deadline
from ...errors import ImageError
from ...files import flush
from ...model.branch import BranchRecord
from ...model.template import TemplateRecord
from ...model.template_info import TemplateSizes
from ..common.run import run

DISK = "disk.qcow2"
PARTS = ("state", "ram", DISK)
STAMP = "stamp:"
# Seconds to read through a RAM file.
DIG = 300.0


def seal(folder: Path, name: str, read_only_ram: bool = False) -> dict[str, str]:
    """Punch holes into the RAM file, flush all files, and set them read-only; return checksums and
    stamps.

    :param read_only_ram: whether QEMU maps a read-only file of RAM. If not, it stays at mode 0600.
    """
    # The file becomes sparse again before a fork depends on it: the guest left its free memory
    # zeroed.
    run(["fallocate", "--dig-holes", str(folder / "ram")], Deadline(DIG), name=name)
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(lambda: {part: checksum(folder / part) for part in PARTS})
        # The record will say that the template is frozen: from then on a crash of the machine must
        # not lose a part of it.
        for part in PARTS:
            flush(folder / part)
        checksums = computed.result()
    _set_read_only(folder, PARTS, read_only_ram)
    return checksums | {STAMP + part: _stamp(folder / part) for part in PARTS}


def seal_branch(folder: Path, parts: Sequence[str], read_only_ram: bool = False) -> dict[str, str]:
    """Set the files of a branch read-only, RAM as in :func:`seal`; return their stamps.

    A branch is forked only while the controller that created it lives, so its files are restored
    from no backup, and stamps suffice. Only the disk is flushed: hosts that boot need it. After a
    crash of the machine nothing runs that uses RAM and state.
    """
    flush(folder / DISK)
    _set_read_only(folder, parts, read_only_ram)
    return {STAMP + part: _stamp(folder / part) for part in parts}


def _set_read_only(folder: Path, parts: Sequence[str], read_only_ram: bool) -> None:
    for part in parts:
        is_writable = part.startswith("ram") and not read_only_ram
        (folder / part).chmod(0o600 if is_writable else 0o400)


def problem(folder: Path, record: TemplateRecord) -> str:
    """Return the damage of a frozen template's files; empty if they are unchanged."""
    checksums = record.checksums or {}
    for part in PARTS:
        path = folder / part
        if not path.exists():
            return f"its file {path} is missing"
        stamp = _stamp(path)
        if checksums.get(STAMP + part) in (None, stamp):
            continue
        if checksums.get(part) != _checksum_at(path, stamp):
            return f"its file {path} was changed after it was frozen (the checksum differs)"
    return ""


def verify_branch(folder: Path, record: BranchRecord, parts: Sequence[str]) -> None:
    """Refuse to fork from the files of a branch if they were changed since it was frozen.

    :raises ImageError: with the path of the file.
    """
    stamps = record.checksums or {}
    for part in parts:
        path = folder / part
        if path.exists() and stamps.get(STAMP + part) == _stamp(path):
            continue
        raise ImageError(
            f"the {record.title} is damaged.",
            name=record.title,
            cause=f"its file {path} was changed or deleted after it was frozen",
            remedy="branch the host again",
        )


def verify(folder: Path, record: TemplateRecord) -> None:
    """Refuse to fork from files that differ from the frozen ones.

    :raises ImageError: with the path of the file.
    """
    damage = problem(folder, record)
    if damage:
        remedy = "build the template again, or restore the file from a backup"
        raise ImageError("the template is damaged.", name=record.title, cause=damage, remedy=remedy)


def sizes(folder: Path, image: Path) -> TemplateSizes:
    """Return the MiB of the hypervisor's disk that a template uses.

    The size of its image is included, which other templates may share.
    """
    return TemplateSizes(
        disk_mib=_on_disk(folder / DISK),
        ram_mib=_on_disk(folder / "ram"),
        state_mib=_on_disk(folder / "state"),
        image_mib=_on_disk(image),
    )


def _on_disk(path: Path) -> float:
    try:
        return round(path.stat().st_blocks * 512 / (1 << 20), 1)
    except FileNotFoundError:
        return 0.0


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hex; holes are read as zeroes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@lru_cache(maxsize=256)
def _checksum_at(path: Path, _key: str) -> str:
    """Return the checksum of a file; compute it once for each size and time of change.

    A template that was restored from a backup is observed as fast as others then.
    """
    return checksum(path)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
