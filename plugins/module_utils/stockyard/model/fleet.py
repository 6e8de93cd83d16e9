# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: declared sets of hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import naming, placements
from .fleet_terms import FleetTerms
from .host import FLEET_MAX, HostSpec
from .placements import Hypervisor
from .pool import ON_FULL
from .update import RECREATE, UpdateSpec


@dataclass(frozen=True)
class FleetSpec:
    """A declared number of identical hosts.

    :param name: at most 40 characters; hosts are called ``name-1``, ``name-2`` and so on.
    :param template: the template that they are forked from, in the same tenant.
    :param count: the number of hosts.
    :param names: their names, instead of a number; a host is then replaced under its own name.
    :param host: the declaration of each host.
    :param labels: on each host; changed in place.
    :param min_ready: the smallest number of hosts without a lease.
    :param max: the largest number of hosts in all, leased hosts included; 0 for any number.
    :param ttl: seconds that a host lives after its creation; 0 for ever. A change applies to hosts
        that are created later.
    :param replace_on_labels: keys of labels whose change replaces the host.
    :param update: the rules by which hosts are replaced.
    :param recreate: ``always`` replaces every host in every run.
    :param hypervisors: the hypervisors of its hosts; hosts are then called ``name-hypervisor-1``
        and so on.
    :param placement: ``spread`` or ``pack``: the distribution of its hosts among the hypervisors.
    :param on_full: action if the pool has insufficient quota: ``refuse`` creates none of the
        missing hosts, ``fill`` as many as the quota allows. Both are errors.
    :param suspend_after: seconds without a container and without a lease after which a host is
        suspended; 0 for never. A lease resumes it.
    :param local_hypervisor: the hypervisor of this run, which manages its own share and no other.
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
    recreate: str = field(default="auto", metadata={"choices": RECREATE})
    hypervisors: tuple[Hypervisor, ...] = ()
    placement: str = field(default="spread", metadata={"choices": placements.PLACEMENTS})
    local_hypervisor: str = ""
    on_full: str = field(default="refuse", metadata={"choices": ON_FULL})
    suspend_after: float = 0.0

    def __post_init__(self) -> None:
        naming.name("fleet", self.name, naming.FLEET_NAME_MAX)
        naming.name("template", self.template)
        naming.name("tenant", self.tenant)
        naming.whole("count", self.count, 0, FLEET_MAX)
        naming.labels(self.labels)
        self._check_leases()
        naming.labels(dict.fromkeys(self.replace_on_labels, ""))
        naming.check_choices(self)
        self._check_names()
        placements.check(
            self.hypervisors, self.local_hypervisor, self.placement, len(self.names) or self.count
        )
        if (self.least > 1 or self.min_ready) and self.host.bind and self.host.ports:
            raise InvalidInput(
                f"bind: {self.least if self.least > 1 else 'several'} hosts cannot all publish port"
                f" {self.host.ports[0]} on {self.host.bind}.",
                name=f"fleet {self.name}",
                remedy="declare one host and no min_ready, or omit bind",
            )
        if self.host.publish_limit is not None and self.least > self.host.publish_limit:
            raise InvalidInput(
                f"publish: the range of ports is large enough for {self.host.publish_limit} hosts, "
                f"and the fleet has {self.least}.",
                name=f"fleet {self.name}",
                cause=f"each host needs {self.host.port_count} ports",
                remedy="extend the range of ports",
            )
        self._check_volumes()
        self.update.bounds(self.starts_before_delete)

    def _check_volumes(self) -> None:
        shared_names = [use.name for use in self.host.volumes if not use.differs_by_host]
        if shared_names and (self.least > 1 or self.min_ready):
            raise InvalidInput(
                f"volumes: {shared_names[0]} cannot be attached to several hosts.",
                name=f"fleet {self.name}",
                remedy="write {host} in its name, so that each host has a separate volume",
            )

    @property
    def size(self) -> int:
        """Return the number of hosts to have on this hypervisor."""
        if self.hypervisors:
            return placements.shares(
                self.hypervisors, self.placement, len(self.names) or self.count
            )[self.local_hypervisor]
        return len(self.names) or self.count

    @property
    def growth_limit(self) -> int:
        """Return the number of hosts up to which a waiting lease adds hosts; 0 if no lease creates
        hosts, because they have declared names.
        """
        if self.names:
            return 0
        return self.max or (FLEET_MAX if self.min_ready else self.size)

    @property
    def terms(self) -> FleetTerms | None:
        """Return the numbers that are on the records of its hosts; ``None`` if its hosts have
        declared names.
        """
        return None if self.names else FleetTerms(self.size, self.min_ready, self.suspend_after)

    @property
    def named(self) -> tuple[str, ...]:
        """Return the declared names of its hosts on this hypervisor; empty if the hosts are
        counted.
        """
        if self.hypervisors:
            return placements.dealt(
                self.names, self.hypervisors, self.placement, self.local_hypervisor
            )
        return self.names

    @property
    def prefix(self) -> str:
        """Return the prefix of the names of counted hosts, which is different on each
        hypervisor.
        """
        return f"{self.name}-{self.local_hypervisor}" if self.hypervisors else self.name

    @property
    def leaving(self) -> bool:
        """Return whether its hosts on this hypervisor must be deleted because other hypervisors
        take over the share.
        """
        return any(
            hypervisor.name == self.local_hypervisor and hypervisor.state != "active"
            for hypervisor in self.hypervisors
        )

    @property
    def starts_before_delete(self) -> bool:
        """Return whether a new host can exist together with the host that it replaces."""
        # The volume of a host passes to the next host with its name; one host at a time uses it.
        return not self.names and not (self.host.bind and self.host.ports) and not self.host.volumes

    def _check_names(self) -> None:
        for name in self.names:
            naming.name("host", name)
        if len(set(self.names)) != len(self.names):
            raise InvalidInput(
                "names: a host is named twice.",
                name=f"fleet {self.name}",
                remedy="declare each name once",
            )
        if self.names and self.count not in (1, len(self.names)):
            raise InvalidInput(
                f"count is {self.count}, and {len(self.names)} hosts are named.",
                name=f"fleet {self.name}",
                remedy="declare count or names",
            )

    @property
    def least(self) -> int:
        """Return the number of hosts if none is leased."""
        return max(self.size, self.min_ready)

    def _check_leases(self) -> None:
        naming.whole("min_ready", self.min_ready, 0, FLEET_MAX)
        naming.whole("max", self.max, 0, FLEET_MAX)
        time_to_live(self.ttl)
        time_to_live(self.suspend_after, "suspend_after")
        if self.min_ready and (self.names or self.hypervisors):
            raise InvalidInput(
                "min_ready requires count, and one hypervisor.",
                name=f"fleet {self.name}",
                remedy="omit min_ready, or declare count without names and hypervisors",
            )
        if self.max and self.max < self.least:
            raise InvalidInput(
                f"max is {self.max}, and {self.least} hosts are declared.",
                name=f"fleet {self.name}",
                remedy="raise max, or lower count and min_ready",
            )


def time_to_live(seconds: float, name: str = "ttl") -> float:
    """Check a time to live: none, or at least a minute, because the creation of a host
    takes time.
    """
    if seconds and not 60 <= seconds <= 3650 * 86400:
        raise InvalidInput(
            f"{name}: {seconds:g} s is not between one minute and ten years.",
            remedy="write a duration such as 8h",
        )
    return seconds


HOST_STATES = ("present", "absent", "restarted", "replaced", "suspended", "resumed")


@dataclass(frozen=True)
class SingleSpec:
    """A host that is declared by its name.

    :param template: the template that it is forked from; can be empty if the host exists already.
    :param ttl: seconds that it lives after its creation; 0 for ever.
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
