# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands for volumes on a hypervisor that has none of ours: there are none, and none can be made."""

from __future__ import annotations

from typing import Any, NoReturn

from ..core.clock import Deadline
from ..core.host import HostRecord
from ..core.provider import Swept
from ..core.storage import VolumesSeen
from ..core.volume import VolumeRecord
from ..errors import Unsupported


class NoVolumes:
    """The port's part for volumes, declared not to be there.

    :param why: the reason, in words.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def observe(self, owner: str) -> VolumesSeen:
        return VolumesSeen()

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        self._refuse(record)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        self._refuse(record)

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        self._refuse(record)

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self._refuse(record)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self._refuse(record)

    def destroy(self, record: VolumeRecord) -> None:
        return

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> Swept:
        return Swept((), ())

    def facts(self, record: VolumeRecord) -> dict[str, Any]:
        return {}

    def _refuse(self, record: VolumeRecord) -> NoReturn:
        raise Unsupported(
            "this hypervisor has no volumes.", name=record.title, cause=self.why,
            remedy="leave volumes out, or use qemu:///session or qemu:///system",
        )  # fmt: skip
