# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the port that volumes need. A hypervisor that has none says so
(``Capabilities.volumes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..clock import Deadline
from ..model.host import HostRecord
from ..model.observation import SweepResult, VolumeObservation
from ..model.volume import VolumeRecord

if TYPE_CHECKING:
    from ..model.observation import SweepResult


class VolumeStore(Protocol):
    """The volumes of one hypervisor. Methods that change something are idempotent or say what they
    found instead.
    """

    def observe(self, owner: str) -> VolumeObservation:
        """Read everything of one owner. Never partial: it raises instead."""

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        """Put a volume on record and make its disk: empty, or a copy-on-write copy of its source's
        of now.

        :raises Conflict: when the name is taken.
        :raises Refused: when somebody has the source, who may be writing to it.
        """

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        """Compare and set: write the record with these fields changed, if nobody changed it
        meanwhile.

        :raises Conflict: when the version on record is not ``record.version``.
        :raises NotFound: when there is no such volume.
        """

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        """Make its disk that large, in the host that has it, too."""

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        """Put its disk into a running machine, now and for every start of it; one that is in it
        stays.

        :raises Unsupported: when there is no room for one more.
        """

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        """Take its disk out of a machine, when the guest has let go of it."""

    def destroy(self, record: VolumeRecord) -> None:
        """Take away disk and record. Copies of it stay whole. Nothing there is a success.

        :raises Refused: when somebody has it.
        """

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Remove the files of volumes that nothing refers to. What is on record as a volume is
        never one of them.
        """

    def facts(self, record: VolumeRecord) -> dict[str, Any]:
        """What is worth knowing beyond the record: what it takes of the storage, in bytes, and
        where.
        """
