# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole yard as it is declared, and what becomes of the rest of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from ..errors import InvalidInput
from ..model import naming, network
from ..model.fleet import FleetSpec
from ..model.host import Host
from ..model.observation import Template
from ..model.pool import PoolRecord, PoolSpec
from ..model.template import TemplateSpec
from ..model.volume import VolumeSpec
from .plan import Action

ABSENT = "it is to be absent"
PRUNE = ("no", "yes", "force")
Key = tuple[str, str]


@dataclass(frozen=True)
class TemplateTerm:
    """A declared template, and the seconds that it may take."""

    spec: TemplateSpec
    timeout: float = 1800.0


@dataclass(frozen=True)
class FleetTerm:
    """A declared fleet, the seconds that it may take, and whether its hosts are waited for."""

    spec: FleetSpec
    timeout: float = 600.0
    wait: bool = True


@dataclass(frozen=True)
class PoolTerm:
    """A declared pool, whether it may be smaller than what is in it, and the seconds that it may
    take.
    """

    spec: PoolSpec
    force: bool = False
    timeout: float = 60.0


@dataclass(frozen=True)
class VolumeTerm:
    """A declared volume, and the seconds that it may take."""

    spec: VolumeSpec
    timeout: float = 120.0


@dataclass(frozen=True)
class Reference:
    """What something that is declared needs.

    :param whose: the fleet, pool or volume that does, with its kind.
    :param kind: ``template``, ``pool`` or ``volume``.
    :param key: its tenant and name.
    """

    whose: str
    kind: str
    key: Key


@dataclass(frozen=True)
class Declaration:
    """Everything that a yard is to have.

    :param absent_templates: tenant and name of templates that are declared absent;
        ``absent_fleets`` likewise.
    :param absent_pools: likewise.
    :param volumes: in the order in which they are made: copies after what they are copies of. Those
        that are not declared stay, whatever ``prune`` says.
    :param evacuate: whether fleets leave a hypervisor that they are declared to leave; else they
        stay there.
    :param prune: whether objects that are not declared are deleted: ``no``; ``yes``, but no fleet
        with hosts unless a saved plan is applied; or ``force``, if the declaration is empty, too.
    """

    templates: tuple[TemplateTerm, ...] = ()
    fleets: tuple[FleetTerm, ...] = ()
    absent_templates: tuple[Key, ...] = ()
    absent_fleets: tuple[Key, ...] = ()
    prune: str = "no"
    evacuate: bool = True
    pools: tuple[PoolTerm, ...] = ()
    absent_pools: tuple[Key, ...] = ()
    volumes: tuple[VolumeTerm, ...] = ()
    absent_volumes: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        naming.choice("prune", self.prune, PRUNE)
        _once(
            "template",
            [*((t.spec.tenant, t.spec.name) for t in self.templates), *self.absent_templates],
        )
        _once(
            "volume", [*((v.spec.tenant, v.spec.name) for v in self.volumes), *self.absent_volumes]
        )
        _once("fleet", [*((f.spec.tenant, f.spec.name) for f in self.fleets), *self.absent_fleets])
        _once("pool", [*((p.spec.tenant, p.spec.name) for p in self.pools), *self.absent_pools])
        _apart([f.spec for f in self.fleets])
        _no_circle({(p.spec.tenant, p.spec.name): p.spec.parent for p in self.pools})

    def rebuilt(self) -> Declaration:
        """The same with every template built from the latest packages."""
        return replace(
            self,
            templates=tuple(replace(t, spec=replace(t.spec, upgrade=True)) for t in self.templates),
        )

    @property
    def working(self) -> tuple[FleetTerm, ...]:
        """The fleets that a run has to do with."""
        return tuple(f for f in self.fleets if self.evacuate or not f.spec.leaving)

    @property
    def outermost_first(self) -> tuple[PoolTerm, ...]:
        """The pools, each after the one that it is in."""
        left, done = list(self.pools), list[PoolTerm]()
        while left:
            waiting = {(p.spec.tenant, p.spec.name) for p in left}
            # Pools that are in each other are left for the check that says so.
            ready = [p for p in left if (p.spec.tenant, p.spec.parent) not in waiting] or left
            done += ready
            left = [p for p in left if p not in ready]
        return tuple(done)

    @property
    def needed(self) -> tuple[Reference, ...]:
        """What is needed and not declared to be: it has to be there already, and to stay."""
        declared = {("template", (t.spec.tenant, t.spec.name)) for t in self.templates}
        declared |= {("pool", (p.spec.tenant, p.spec.name)) for p in self.pools}
        declared |= {("volume", (v.spec.tenant, v.spec.name)) for v in self.volumes}
        found = [
            Reference(f"fleet {spec.name}", kind, (spec.tenant, name))
            for spec in (f.spec for f in self.working if f.spec.least)
            for kind, name in (("template", spec.template), ("pool", spec.host.pool))
            if name
        ]
        pools = [p.spec for p in self.pools if p.spec.parent]
        found += [
            Reference(f"pool {spec.name}", "pool", (spec.tenant, spec.parent)) for spec in pools
        ]
        copies = [v.spec for v in self.volumes if v.spec.source]
        found += [
            Reference(f"volume {spec.name}", "volume", (spec.tenant, spec.source))
            for spec in copies
        ]
        return tuple(r for r in found if (r.kind, r.key) not in declared)

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """The lists that are empty though what is not declared is to go: nothing goes for their
        sake.
        """
        lists = {"fleets": self.fleets, "templates": self.templates, "pools": self.pools}
        return tuple(name for name, terms in lists.items() if self.prune == "yes" and not terms)

    def fleets_to_go(self, found: Iterable[Host]) -> dict[Key, str]:
        """The fleets that are there and are not to be, each with the reason."""
        there = {(h.record.tenant, h.record.fleet) for h in found if h.record.fleet}
        declared = {(f.spec.tenant, f.spec.name) for f in self.fleets}
        return self._to_go(there, declared, self.absent_fleets)

    def templates_to_go(self, found: Iterable[Template]) -> dict[Key, str]:
        """The templates that are there and are not to be, each with the reason."""
        there = {(t.record.tenant, t.record.name) for t in found}
        declared = {(t.spec.tenant, t.spec.name) for t in self.templates}
        return self._to_go(there, declared, self.absent_templates)

    def pools_to_go(self, found: Iterable[PoolRecord]) -> dict[Key, str]:
        """The pools that are there and are not to be, each with the reason."""
        there = {(p.tenant, p.name) for p in found}
        return self._to_go(
            there, {(p.spec.tenant, p.spec.name) for p in self.pools}, self.absent_pools
        )

    def _to_go(
        self, there: set[Key], declared: set[Key], absent: Collection[Key]
    ) -> dict[Key, str]:
        # A list without entries is more likely lost than meant: nothing goes for its sake.
        pruned = self.prune == "force" or (self.prune == "yes" and bool(declared))
        found = {key: ABSENT for key in sorted(there) if key in absent}
        if pruned:
            found |= {
                key: "it is not declared any more"
                for key in sorted(there - declared)
                if key not in absent
            }
        return found


def gone_by(actions: Iterable[Action]) -> set[str]:
    """Names of the hosts that are not there any more, as they were, when these actions are done."""
    return {a.name for a in actions if a.kind == "host" and a.verb in ("destroy", "replace")}


def _once(kind: str, keys: list[Key]) -> None:
    for key in keys:
        if keys.count(key) > 1:
            raise InvalidInput(
                f"{kind} {key[1]} is declared twice.",
                name=f"tenant {key[0]}",
                remedy="declare it once",
            )


def _apart(fleets: Iterable[FleetSpec]) -> None:
    """Refuse fleets that would publish the same port on the same address."""
    taken: set[tuple[str, int]] = set()
    for spec in fleets:
        own = not spec.host.bind or spec.host.network or not spec.least
        wanted = frozenset((spec.host.bind, port) for port in (() if own else spec.host.ports))
        found = network.clash(wanted, taken)
        if found:
            raise InvalidInput(
                f"port {found[1]} cannot be published on {found[0]}: another fleet of the "
                f"declaration does that.",
                name=f"fleet {spec.name}",
                remedy="choose another port or another address (bind)",
            )
        taken |= wanted


def _no_circle(parents: dict[Key, str]) -> None:
    """Refuse pools that are inside themselves."""
    for (tenant, name), parent in parents.items():
        around, seen = parent, {name}
        while around and around not in seen:
            seen.add(around)
            around = parents.get((tenant, around), "")
        if around == name:
            raise InvalidInput(
                "it would be inside itself.", name=f"pool {name}", remedy="name another parent"
            )
