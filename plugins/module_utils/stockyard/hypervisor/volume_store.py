# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that manages volumes. ``Capabilities.volumes`` says whether a hypervisor has
volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..clock import Deadline
from ..model.host import HostRecord
from ..model.observation import SweepResult, VolumeObservation
from ..model.volume import VolumeRecord
from .facts import VolumeFacts

if TYPE_CHECKING:
    from ..model.observation import SweepResult


class VolumeStore(Protocol):
    """The volumes of one hypervisor. Methods that change something are idempotent, or raise an
    error with the state that they observed.
    """

    def observe(self, owner: str) -> VolumeObservation:
        """Observe all volumes of one owner. The result is never partial: an error is raised
        instead.
        """

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        """Record a volume and create its disk: empty, or a copy-on-write copy of its source's
        present content.

        :raises Conflict: if the name is taken.
        :raises OperationRefused: if the source is attached to a host, which may be writing to it.
        """

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        """Compare and set: write the record with these fields changed, unless another controller
        changed it first.

        :raises Conflict: if the version on record is not ``record.version``.
        :raises NotFound: if there is no such volume.
        """

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        """Enlarge its disk to a size, also in the host that it is attached to."""

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        """Plug its disk into a running machine, now and for every later start; a disk that is
        already plugged in stays.

        :raises Unsupported: if there is no free slot.
        """

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        """Unplug its disk from a machine after the guest has released it."""

    def destroy(self, record: VolumeRecord) -> None:
        """Delete disk and record. Copies of the volume stay complete. A missing volume is a
        success.

        :raises OperationRefused: if the volume is attached to a host.
        """

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Delete the files of volumes that no object refers to. Files of recorded volumes are never
        deleted.
        """

    def facts(self, record: VolumeRecord) -> VolumeFacts:
        """Return the facts of the disk beyond the record."""
