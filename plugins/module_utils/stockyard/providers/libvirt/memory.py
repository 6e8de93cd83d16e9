# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real cost of a machine's RAM: how much is the guest's own, and how much it shares with its
template.

Read from ``/proc/PID/smaps`` (proc(5)). A page of a private file mapping is anonymous if the guest
has written it; a page that the guest has only read is the template file's, in the page cache once
for all forks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...model.host_info import MemoryUse

PROC = Path("/proc")


def guest_ram(pid: int, size_kib: int) -> MemoryUse | None:
    """Return the MiB of guest RAM that are the guest's own and that it shares; ``None`` if they
    cannot be read.

    :param size_kib: nominal RAM. For a fork it is the mapping of its template's file; for other
        machines the mapping of that size with the most resident memory.
    """
    ram = _ram(pid, size_kib)
    if ram is None:
        return None
    private_kib = ram.sizes["Anonymous"]
    shared_mib = round((ram.sizes["Rss"] - private_kib) / 1024, 1)
    return MemoryUse(round(private_kib / 1024, 1), shared_mib, oom_score(pid))


def saved_mib(pid: int, size_kib: int) -> int | None:
    """Return the MiB of guest RAM that a save writes at most; ``None`` if they cannot be read.

    Pages of the template's file that the guest has not read are saved too; zeroes are not.

    :param size_kib: nominal RAM.
    """
    ram = _ram(pid, size_kib)
    if ram is None:
        return None
    try:
        shared_kib = Path(ram.path).stat().st_blocks // 2 if ram.path.startswith("/") else 0
    except OSError:
        shared_kib = size_kib
    private_kib = ram.sizes["Anonymous"] if ram.path.startswith("/") else ram.sizes["Rss"]
    return min(size_kib, private_kib + shared_kib) // 1024 + 1


def oom_score(pid: int) -> int:
    """Return the kernel's OOM score of a process: when memory runs out, the process with the
    highest score is ended first (proc(5)).
    """
    try:
        return int((PROC / str(pid) / "oom_score").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class _Mapping:
    path: str
    sizes: dict[str, int]


def _ram(pid: int, size_kib: int) -> _Mapping | None:
    """Return the mapping of a guest's RAM; ``None`` if it cannot be read."""
    try:
        text = (PROC / str(pid) / "smaps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    candidates = [mapping for mapping in _mappings(text) if mapping.sizes.get("Size") == size_kib]
    return max(
        candidates,
        key=lambda mapping: (mapping.path.endswith("/ram"), mapping.sizes["Rss"]),
        default=None,
    )


def _mappings(text: str) -> list[_Mapping]:
    """Return every mapping with its figures in KiB."""
    mappings: list[_Mapping] = []
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].endswith(":"):
            mappings.append(_Mapping(words[5] if len(words) > 5 else "", {}))
        elif mappings and len(words) == 3 and words[2] == "kB":
            mappings[-1].sizes[words[0].rstrip(":")] = int(words[1])
    return mappings
