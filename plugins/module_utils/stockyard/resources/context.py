# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every service needs, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..clock import Clock, Deadline, SystemClock
from ..hypervisor.provider import Progress, Provider
from ..pki.store import Pki


def _silent(_line: str) -> None:
    return


@dataclass(frozen=True)
class Context:
    """One yard on one hypervisor.

    :param pki: gives the key material of a tenant.
    :param progress: told, in a line, of every stage that ends.
    :param coming: volumes, by tenant and name, that a plan of a whole yard makes before.
    :param wait: whether to wait until Docker answers in hosts that were made or started.
    :param volume_key: what the keys of encrypted volumes are made of; secret.
    """

    provider: Provider
    owner: str
    pki: Callable[[str], Pki]
    clock: Clock = field(default_factory=SystemClock)
    progress: Progress = _silent
    wait: bool = True
    coming: frozenset[tuple[str, str]] = frozenset()
    volume_key: str = field(default="", repr=False)

    def deadline(self, seconds: float) -> Deadline:
        """A deadline by this context's clock."""
        return Deadline(seconds, self.clock)

    def today(self) -> datetime:
        """The time of now, as certificates want it."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def lock_name(self, kind: str, tenant: str, name: str) -> str:
        """The name under which one object of this yard is held."""
        return f"{self.owner}.{tenant}.{kind}.{name}"
