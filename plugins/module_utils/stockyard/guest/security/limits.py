# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits by systemd: one slice for all containers together, and defaults for each container's
scope.

A container's own ``--memory`` or ``--pids-limit`` overrides the default, never the slice. Limits of
a rootless dockerd are on the slice of its user.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Limits, Settings
from ..rendering import render
from .part import NOTHING, UNITS, Part

SLICE = "stockyard-containers.slice"
ROOTLESS_SLICE = "user-{uid}.slice"
# The image's only disk; a volume for Docker's data is a different device.
DISK = "/"
ALL = """\
[Slice]
{% if pids %}TasksMax={{ pids }}
{% endif %}{% if memory_percent %}MemoryMax={{ memory_percent }}%
MemorySwapMax=0
{% endif %}{% if cpu_percent %}CPUQuota={{ cpu_percent }}%
{% endif %}{% if cpus %}AllowedCPUs={{ cpus }}
{% endif %}{% if read_mib %}IOReadBandwidthMax={{ disk }} {{ read_mib }}M
{% endif %}{% if write_mib %}IOWriteBandwidthMax={{ disk }} {{ write_mib }}M
{% endif %}"""
EACH = """\
# For each container without limits of its own. Docker's settings win over a file of a lower number.
[Scope]
{% if container_pids %}TasksMax={{ container_pids }}
{% endif %}{% if container_memory_percent %}MemoryMax={{ container_memory_percent }}%
{% endif %}"""


def for_all(limits: Limits) -> bool:
    """Return whether there is a limit on all containers together."""
    return bool(
        limits.pids
        or limits.memory_percent
        or limits.cpu_percent
        or limits.cpus
        or limits.read_mib
        or limits.write_mib
    )


def part(settings: Settings) -> Part:
    """Return the units. The name of a container's scope begins with ``docker-``, and systemd reads
    drop-ins for this prefix.
    """
    values = {**vars(settings.limits), "disk": DISK}
    files = {}
    if for_all(settings.limits):
        path = f"{UNITS}/{SLICE}" if settings.user_namespaces != "rootless" else _rootless_drop_in()
        files[path] = GuestFile(render(ALL, **values))
    if settings.limits.container_pids or settings.limits.container_memory_percent:
        base = "/etc/systemd/user" if settings.user_namespaces == "rootless" else UNITS
        files[f"{base}/docker-.scope.d/10-stockyard.conf"] = GuestFile(render(EACH, **values))
    return Part(files=files) if files else NOTHING


def _rootless_drop_in() -> str:
    from .rootless import UID

    return f"{UNITS}/{ROOTLESS_SLICE.format(uid=UID)}.d/stockyard.conf"
