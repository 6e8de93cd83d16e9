# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's RAM really costs: how much of it is the guest's own, and how much it shares with
its template.

Read from ``/proc/PID/smaps`` (proc(5)). A page of a private file mapping that the guest has written
is anonymous; one that it has only read is the template file's, in the page cache once for all
forks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def guest_ram(pid: int, size_kib: int) -> dict[str, float] | None:
    """MiB of guest RAM that are the guest's own and that it shares; nothing when it cannot be read.

    :param size_kib: nominal RAM. A fork's is the mapping of its template's file; another's the
        fullest of that size.
    """
    try:
        text = (PROC / str(pid) / "smaps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fitting = [m for m in _mappings(text) if m.sizes.get("Size") == size_kib]
    if not fitting:
        return None
    ram = max(fitting, key=lambda m: (m.path.endswith("/ram"), m.sizes["Rss"])).sizes
    own = ram["Anonymous"]
    shared = round((ram["Rss"] - own) / 1024, 1)
    return {"private_mib": round(own / 1024, 1), "shared_mib": shared, "oom_score": oom_score(pid)}


def oom_score(pid: int) -> int:
    """The kernel's number of a process: the one that has the highest is ended first when memory is
    out (proc(5)).
    """
    try:
        return int((PROC / str(pid) / "oom_score").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class _Mapping:
    path: str
    sizes: dict[str, int]


def _mappings(text: str) -> list[_Mapping]:
    """Every mapping with its figures in KiB."""
    found: list[_Mapping] = []
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].endswith(":"):
            found.append(_Mapping(words[5] if len(words) > 5 else "", {}))
        elif found and len(words) == 3 and words[2] == "kB":
            found[-1].sizes[words[0].rstrip(":")] = int(words[1])
    return found
