# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a fleet."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info
from .versions import MissingUpdate


@dataclass(frozen=True, kw_only=True)
class FleetInfo(Info):
    """A fleet.

    :param name: the fleet's name.
    :param tenant: the tenant that the fleet belongs to.
    :param template: the template that the newest host was forked from.
    :param generations: the generations of that template that the hosts were forked from. More than
        one during a replacement.
    :param hosts: the names of the hosts.
    :param ready: the number of hosts that have their identity and run with the right time.
    :param total: the number of hosts.
    :param leased: the number of leased hosts.
    :param outdated: the names of the hosts that were forked from another generation than the
        current one.
    :param missing_updates: for each host, by name, the packages for which the mirror offers a later
        version. Empty if the host is up to date, ``None`` if that is not known. ``None`` instead of
        all if it was not requested.
    :param drift: the hosts whose certificate must be renewed, or whose clock must be set, by name,
        each with the reasons. Empty if there are none.
    """

    name: str
    tenant: str
    template: str
    generations: tuple[str, ...]
    hosts: tuple[str, ...]
    ready: int
    total: int
    leased: int
    outdated: tuple[str, ...]
    missing_updates: dict[str, tuple[MissingUpdate, ...] | None] | None = None
    drift: dict[str, tuple[str, ...]]
