# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for branches: the frozen states of hosts that continue to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..clock import Deadline
from ..model.branch import BranchRecord
from ..model.host import HostRecord
from ..model.template import TemplateRecord
from ..model.volume import VolumeRecord


class BranchStore(Protocol):
    """The branches of one hypervisor."""

    def all(self) -> list[BranchRecord]:
        """Return the record of every branch, of any owner."""

    def create(
        self,
        host: HostRecord,
        template: TemplateRecord,
        current_time: float,
        deadline: Deadline,
        volumes: Sequence[VolumeRecord] = (),
    ) -> BranchRecord:
        """Branch a running host. The host continues, whatever happens.

        :param template: the template of the host.
        :param volumes: the volumes that are attached to the host. Their content is branched at the
            same moment, if ``Capabilities.branches_volumes``.
        :raises StockyardError: if the host cannot be branched, with the reason. Nothing is left.
        """

    def copy_volume(self, record: VolumeRecord, branch: BranchRecord, deadline: Deadline) -> None:
        """Record a volume, and create its disk as a copy-on-write copy of a volume of the branch:
        that with the name ``record.source``.

        :raises Conflict: if the name of the volume is taken.
        """

    def fork(
        self,
        host: HostRecord,
        branch: BranchRecord,
        deadline: Deadline,
        copies: Sequence[VolumeRecord] = (),
    ) -> None:
        """Create the machine of a reserved host from a branch and start it, its network link down.
        The record of the host names the branch.

        :param copies: volumes of :meth:`copy_volume`, which are plugged in where the volumes of the
            parent were. In place of each volume without a copy, a disk with the same content is
            plugged in, which :meth:`drop_volumes` deletes.
        """

    def check_template(self, host: HostRecord) -> None:
        """Refuse a running host if there is no space for a template that is created from it.

        :raises OutOfSpace: with the MiB that are needed and those that are free.
        """

    def fork_template(
        self, record: TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        """Create the machine of a template from a branch and start it, without a network. Its
        memory and its disk become independent of the branch when it is frozen, at the latest. Disks
        stand in for volumes, see :meth:`drop_volumes`.

        :raises Unsupported: if this hypervisor cannot do that (``Capabilities.freezes_hosts``).
        """

    def drop_volumes(
        self, child: HostRecord | TemplateRecord, branch: BranchRecord, deadline: Deadline
    ) -> None:
        """Unplug the disks of a child that are no volumes, and delete them. The guest no longer
        uses them.
        """

    def release(self, record: BranchRecord) -> None:
        """Delete a branch, or mark it for deletion together with the last host that was forked
        from it.
        """

    def prune(self, owner: str) -> None:
        """Delete released branches without hosts, and branches whose controller died."""
