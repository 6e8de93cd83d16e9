# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: declared sets of hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import naming, placements
from .host import HostSpec
from .placements import Hypervisor
from .pool import ON_FULL
from .update import RECREATE, UpdateSpec


@dataclass(frozen=True)
class FleetSpec:
    """A declared set of equal hosts.

    :param name: at most 40 characters; hosts are called ``name-1``, ``name-2`` and so on.
    :param template: the template that they are forked from, in the same tenant.
    :param count: how many.
    :param names: their names, instead of a number of them; a host is then replaced under its own
        name.
    :param host: what each is like.
    :param labels: carried on each host; changed in place.
    :param min_ready: how many hosts there are to be, at least, that nobody leased.
    :param max: how many there may be in all, leased ones too; 0 for any number.
    :param ttl: seconds that a host lives, from its making on; 0 for ever. It is for hosts that are
        made from now on.
    :param replace_on_labels: keys of labels whose change replaces the host.
    :param update: how hosts are replaced.
    :param recreate: ``always`` makes every host anew in every run.
    :param hypervisors: those that its hosts are on; hosts are then called ``name-hypervisor-1`` and
        so on.
    :param placement: ``spread`` or ``pack``: how its hosts are dealt out among them.
    :param on_full: what becomes of a run that its pool has not room enough for: ``refuse`` makes
        none of the hosts that are missing, ``fill`` as many as there is room for. Either is an
        error.
    :param here: which of them a run is on: it has to do with its share and with no other.
    """

    name: str
    template: str
    count: int = 1
    tenant: str = "default"
    host: HostSpec = field(default_factory=HostSpec)
    labels: dict[str, str] = field(default_factory=dict)
    min_ready: int = 0
    max: int = 0
    ttl: float = 0.0
    names: tuple[str, ...] = ()
    replace_on_labels: tuple[str, ...] = ()
    update: UpdateSpec = field(default_factory=UpdateSpec)
    recreate: str = "auto"
    hypervisors: tuple[Hypervisor, ...] = ()
    placement: str = "spread"
    here: str = ""
    on_full: str = "refuse"

    def __post_init__(self) -> None:
        naming.name("fleet", self.name, naming.FLEET_NAME_MAX)
        naming.name("template", self.template)
        naming.name("tenant", self.tenant)
        naming.whole("count", self.count, 0, 10000)
        naming.labels(self.labels)
        self._check_leases()
        naming.labels(dict.fromkeys(self.replace_on_labels, ""))
        naming.choice("recreate", self.recreate, RECREATE)
        naming.choice("on_full", self.on_full, ON_FULL)
        self._check_names()
        placements.check(self.hypervisors, self.here, self.placement, len(self.names) or self.count)
        if (self.least > 1 or self.min_ready) and self.host.bind and self.host.ports:
            raise InvalidInput(
                f"bind: {self.least if self.least > 1 else 'several'} hosts cannot all publish port"
                f" {self.host.ports[0]} on {self.host.bind}.",
                name=f"fleet {self.name}",
                remedy="have one host in the fleet and no min_ready, or leave bind out",
            )
        self._check_volumes()
        self.update.bounds(self.beside)

    def _check_volumes(self) -> None:
        shared = [use.name for use in self.host.volumes if not use.own]
        if shared and (self.least > 1 or self.min_ready):
            raise InvalidInput(
                f"volumes: {shared[0]} cannot be in several hosts: one has it at a time.",
                name=f"fleet {self.name}",
                remedy="write {host} in its name, so that each host has one of its own",
            )

    @property
    def size(self) -> int:
        """How many hosts it is to have here."""
        if self.hypervisors:
            return placements.shares(
                self.hypervisors, self.placement, len(self.names) or self.count
            )[self.here]
        return len(self.names) or self.count

    @property
    def named(self) -> tuple[str, ...]:
        """The declared names of its hosts here; empty where they are counted."""
        if self.hypervisors:
            return placements.dealt(self.names, self.hypervisors, self.placement, self.here)
        return self.names

    @property
    def prefix(self) -> str:
        """What the names of counted hosts begin with: no two hypervisors give the same."""
        return f"{self.name}-{self.here}" if self.hypervisors else self.name

    @property
    def leaving(self) -> bool:
        """Whether its hosts here are to go because others take the share."""
        return any(h.name == self.here and h.state != "active" for h in self.hypervisors)

    @property
    def beside(self) -> bool:
        """Whether a new host can be there while the one is that it takes the place of."""
        # The volume that it has is for the one that has its name next, and one host at a time has
        # it.
        return not self.names and not (self.host.bind and self.host.ports) and not self.host.volumes

    def _check_names(self) -> None:
        for one in self.names:
            naming.name("host", one)
        if len(set(self.names)) != len(self.names):
            raise InvalidInput(
                "names: a host is named twice.", name=f"fleet {self.name}", remedy="name each once"
            )
        if self.names and self.count not in (1, len(self.names)):
            raise InvalidInput(
                f"count is {self.count}, and {len(self.names)} hosts are named.",
                name=f"fleet {self.name}",
                remedy="give count or names",
            )

    @property
    def least(self) -> int:
        """How many hosts it has when none is leased."""
        return max(self.size, self.min_ready)

    def _check_leases(self) -> None:
        naming.whole("min_ready", self.min_ready, 0, 10000)
        naming.whole("max", self.max, 0, 10000)
        time_to_live(self.ttl)
        if self.min_ready and (self.names or self.hypervisors):
            raise InvalidInput(
                "min_ready goes with hosts that are counted, on one hypervisor.",
                name=f"fleet {self.name}",
                remedy="leave min_ready out, or declare count without names and hypervisors",
            )
        if self.max and self.max < self.least:
            raise InvalidInput(
                f"max is {self.max}, and {self.least} hosts are declared.",
                name=f"fleet {self.name}",
                remedy="raise max, or lower count and min_ready",
            )


def time_to_live(seconds: float) -> float:
    """Check a time to live: none, or at least a minute, as hosts have to be made before they go."""
    if seconds and not 60 <= seconds <= 3650 * 86400:
        raise InvalidInput(
            f"ttl: {seconds:g} s is not between one minute and ten years.", remedy="write it as 8h"
        )
    return seconds


HOST_STATES = ("present", "absent", "restarted", "replaced")


@dataclass(frozen=True)
class SingleSpec:
    """One host that is declared by its name.

    :param template: the template that it is forked from; may be empty where the host is there
        already.
    :param ttl: seconds that it lives, from its making on; 0 for ever.
    """

    name: str
    template: str = ""
    tenant: str = "default"
    host: HostSpec = field(default_factory=HostSpec)
    labels: dict[str, str] = field(default_factory=dict)
    ttl: float = 0.0

    def __post_init__(self) -> None:
        naming.name("host", self.name)
        time_to_live(self.ttl)
        naming.name("tenant", self.tenant)
        if self.template:
            naming.name("template", self.template)
        naming.labels(self.labels)
