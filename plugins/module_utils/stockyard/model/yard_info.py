# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a yard as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True)
class SkippedObject(Info):
    """An object that reaping did not delete.

    :param kind: the kind of the object: ``machine``, ``host``, ``template``, ``volume``, ``fleet``,
        ``node`` or ``file``.
    :param name: the name of the object, or the path of a file.
    :param reason: the reason why it is skipped.
    """

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class HypervisorInfo(Info):
    """The capabilities of a hypervisor.

    :param modes: the fork modes that the hypervisor supports, best first: some of ``instant``,
        ``linked`` and ``full``.
    :param parallel: the number of hosts that are created at the same time.
    :param endpoints: whether hosts on the hypervisor have network endpoints.
    :param volumes: whether the hypervisor supports volumes.
    :param problems: the problems that prevent a yard on this hypervisor, each in a line. Empty if
        there are none.
    """

    modes: tuple[str, ...]
    parallel: int
    endpoints: bool
    volumes: bool
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportInfo(Info):
    """A report that was written, or would be written in check mode.

    :param changed: whether the file changed.
    :param dest: the path of the file.
    :param figures: the number of objects of each kind in the report.
    """

    changed: bool
    dest: str
    figures: dict[str, int]
