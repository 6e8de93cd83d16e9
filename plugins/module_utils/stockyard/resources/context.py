# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context of all operations on a yard: provider, owner, keys, clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..clock import Clock, Deadline, SystemClock
from ..guest.client import Guest
from ..hypervisor.provider import Progress, Provider
from ..model import naming
from ..model.host import HostRecord
from ..model.observation import Record
from ..pki.store import Pki


def _silent(_line: str) -> None:
    return


@dataclass(frozen=True)
class Context:
    """One yard on one hypervisor.

    :param pki: returns the key material of a tenant.
    :param progress: receives one line for every stage that ends.
    :param coming: volumes, by tenant and name, that earlier steps of a yard's plan create.
    :param wait: whether to wait until Docker answers in hosts that were created or started.
    :param volume_key: the secret that the keys of encrypted volumes are derived from.
    """

    provider: Provider
    owner: str
    pki: Callable[[str], Pki]
    clock: Clock = field(default_factory=SystemClock)
    progress: Progress = _silent
    wait: bool = True
    coming: frozenset[tuple[str, str]] = frozenset()
    volume_key: str = field(default="", repr=False)

    def guest(self, record: Record, deadline: Deadline) -> Guest:
        """Return the client of the agent in a host or template, for a ``with`` block.

        :param deadline: limit of each operation.
        """
        return Guest(self.provider.channel(record, deadline), record.title, deadline)

    def deadline(self, seconds: float) -> Deadline:
        """Return a deadline by this context's clock."""
        return Deadline(seconds, self.clock)

    def today(self) -> datetime:
        """Return the current time in the form that certificates need."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def lock_name(self, kind: str, tenant: str, name: str) -> str:
        """Return the name of the lock of one object of this yard.

        :raises InvalidInput: if no object can have this name.
        """
        naming.name("tenant", tenant)
        naming.name(kind, name)
        return f"{self.owner}.{tenant}.{kind}.{name}"

    def host_lock(self, host: HostRecord) -> str:
        """Return the name of the lock of a host: its fleet's, if it belongs to one."""
        kind, name = ("fleet", host.fleet) if host.fleet else ("host", host.name)
        return self.lock_name(kind, host.tenant, name)
