# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration of a whole yard, and the objects that it asks to delete."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..errors import InvalidInput
from ..model import naming, network
from ..model.endpoint import EndpointSpec
from ..model.fleet import FleetSpec
from ..model.host import Host
from ..model.observation import Template
from ..model.pool import PoolRecord, PoolSpec
from ..model.template import TemplateSpec
from ..model.volume import VolumeSpec
from . import derivation
from .plan import Action

ABSENT = "it is declared absent"
PRUNE = ("no", "yes", "force")
Key = tuple[str, str]


@dataclass(frozen=True)
class TemplateTerm:
    """A declared template, and the seconds that its build can take."""

    spec: TemplateSpec
    timeout: float = 1800.0


@dataclass(frozen=True)
class FleetTerm:
    """A declared fleet, the seconds that its plan can take, and whether to wait for its hosts."""

    spec: FleetSpec
    timeout: float = 600.0
    wait: bool = True


@dataclass(frozen=True)
class SuspendedFleetTerm:
    """A fleet that is declared suspended, and the seconds that its suspension can take."""

    name: str
    tenant: str = "default"
    timeout: float = 600.0


@dataclass(frozen=True)
class PoolTerm:
    """A declared pool, whether its limits can be below its present use, and the seconds that the
    change can take.
    """

    spec: PoolSpec
    force: bool = False
    timeout: float = 60.0


@dataclass(frozen=True)
class EndpointTerm:
    """A declared endpoint, whether its image host can be replaced, and the seconds that its plan
    can take.
    """

    spec: EndpointSpec
    replace: bool = False
    timeout: float = 600.0


@dataclass(frozen=True)
class VolumeTerm:
    """A declared volume, and the seconds that its plan can take."""

    spec: VolumeSpec
    timeout: float = 120.0


T = TypeVar("T", TemplateTerm, PoolTerm)


@dataclass(frozen=True)
class Reference:
    """A template, pool or volume that a declared object needs.

    :param needed_by: the fleet, endpoint, pool or volume that needs it, with its kind.
    :param kind: ``template``, ``pool`` or ``volume``.
    :param key: tenant and name of the needed object.
    """

    needed_by: str
    kind: str
    key: Key


@dataclass(frozen=True)
class Declaration:
    """Everything that a yard must have.

    :param absent_templates: tenant and name of templates that are declared absent;
        ``absent_fleets`` likewise.
    :param absent_pools: likewise; ``absent_endpoints`` too.
    :param suspended_fleets: fleets whose existing hosts are suspended and otherwise stay as they
        are.
    :param volumes: in the order of their creation: copies after their sources. Volumes that are not
        declared stay, regardless of ``prune``.
    :param evacuate: whether fleets leave a hypervisor that they are declared to leave; else they
        stay on it.
    :param prune: whether objects that are not declared are deleted: ``no``; ``yes``, but no fleet
        with hosts unless a saved plan is applied; or ``force``, even if the declaration is empty.
    """

    templates: tuple[TemplateTerm, ...] = ()
    fleets: tuple[FleetTerm, ...] = ()
    absent_templates: tuple[Key, ...] = ()
    absent_fleets: tuple[Key, ...] = ()
    prune: str = field(default="no", metadata={"choices": PRUNE})
    evacuate: bool = True
    pools: tuple[PoolTerm, ...] = ()
    absent_pools: tuple[Key, ...] = ()
    volumes: tuple[VolumeTerm, ...] = ()
    absent_volumes: tuple[Key, ...] = ()
    suspended_fleets: tuple[SuspendedFleetTerm, ...] = ()
    endpoints: tuple[EndpointTerm, ...] = ()
    absent_endpoints: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        naming.check_choices(self)
        _once(
            "template",
            [
                *(
                    (template_term.spec.tenant, template_term.spec.name)
                    for template_term in self.templates
                ),
                *self.absent_templates,
            ],
        )
        _once(
            "volume",
            [
                *((volume_term.spec.tenant, volume_term.spec.name) for volume_term in self.volumes),
                *self.absent_volumes,
            ],
        )
        _once(
            "fleet",
            [
                *((fleet_term.spec.tenant, fleet_term.spec.name) for fleet_term in self.fleets),
                *((term.tenant, term.name) for term in self.suspended_fleets),
                *self.absent_fleets,
            ],
        )
        _once(
            "pool",
            [
                *((pool_term.spec.tenant, pool_term.spec.name) for pool_term in self.pools),
                *self.absent_pools,
            ],
        )
        _once(
            "endpoint",
            [
                *((term.spec.tenant, term.spec.name) for term in self.endpoints),
                *self.absent_endpoints,
            ],
        )
        _apart([fleet_term.spec for fleet_term in self.fleets])
        _served_apart([term.spec for term in self.endpoints])
        _no_circle(
            "pool",
            {
                (pool_term.spec.tenant, pool_term.spec.name): pool_term.spec.parent
                for pool_term in self.pools
            },
            "the pool would be inside itself.",
        )
        _no_circle(
            "template",
            {
                (template_term.spec.tenant, template_term.spec.name): template_term.spec.parent
                for template_term in self.templates
            },
            "the template is derived from itself, through other templates.",
        )
        derivation.check(term.spec for term in self.parents_first)

    def rebuilt(self) -> Declaration:
        """Return a copy in which every template is built from the latest packages."""
        return replace(
            self,
            templates=tuple(
                # A template from a host is replaced only by another revision.
                term
                if term.spec.from_host
                else replace(term, spec=replace(term.spec, upgrade=True))
                for term in self.templates
            ),
        )

    @property
    def working(self) -> tuple[FleetTerm, ...]:
        """Return the fleets that a run works on."""
        return tuple(term for term in self.fleets if self.evacuate or not term.spec.leaving)

    @property
    def outermost_first(self) -> tuple[PoolTerm, ...]:
        """Return the pools, each after its parent."""
        return _parents_first(self.pools)

    @property
    def parents_first(self) -> tuple[TemplateTerm, ...]:
        """Return the templates, each after the template that it is derived from."""
        return _parents_first(self.templates)

    @property
    def needed(self) -> tuple[Reference, ...]:
        """Return the needed objects that are not declared: they must exist already, and
        must stay.
        """
        declared_keys = {
            ("template", (template_term.spec.tenant, template_term.spec.name))
            for template_term in self.templates
        }
        declared_keys |= {
            ("pool", (pool_term.spec.tenant, pool_term.spec.name)) for pool_term in self.pools
        }
        declared_keys |= {
            ("volume", (volume_term.spec.tenant, volume_term.spec.name))
            for volume_term in self.volumes
        }
        references = [
            Reference(f"fleet {spec.name}", kind, (spec.tenant, name))
            for spec in (fleet_term.spec for fleet_term in self.working if fleet_term.spec.least)
            for kind, name in (("template", spec.template), ("pool", spec.host.pool))
            if name
        ]
        references += [
            Reference(f"endpoint {spec.name}", kind, (spec.tenant, name))
            for spec in (term.spec for term in self.endpoints if term.spec.template)
            for kind, name in (("template", spec.template), ("pool", spec.host.pool))
            if name
        ]
        pool_specs = [pool_term.spec for pool_term in self.pools if pool_term.spec.parent]
        references += [
            Reference(f"pool {spec.name}", "pool", (spec.tenant, spec.parent))
            for spec in pool_specs
        ]
        derived_specs = [
            template_term.spec for template_term in self.templates if template_term.spec.parent
        ]
        references += [
            Reference(f"template {spec.name}", "template", (spec.tenant, spec.parent))
            for spec in derived_specs
        ]
        copy_specs = [volume_term.spec for volume_term in self.volumes if volume_term.spec.source]
        references += [
            Reference(f"volume {spec.name}", "volume", (spec.tenant, spec.source))
            for spec in copy_specs
        ]
        return tuple(
            reference
            for reference in references
            if (reference.kind, reference.key) not in declared_keys
        )

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Return the names of the empty lists that ``prune`` applies to: an empty list deletes
        nothing.
        """
        fleets = (*self.fleets, *self.suspended_fleets)
        lists = {
            "fleets": fleets,
            "endpoints": self.endpoints,
            "templates": self.templates,
            "pools": self.pools,
        }
        return tuple(name for name, terms in lists.items() if self.prune == "yes" and not terms)

    def fleets_to_go(self, hosts: Iterable[Host]) -> dict[Key, str]:
        """Return the existing fleets to delete, each with the reason."""
        existing_keys = {
            (host.record.tenant, host.record.fleet) for host in hosts if host.record.fleet
        }
        declared_keys = {(term.spec.tenant, term.spec.name) for term in self.fleets}
        declared_keys |= {(term.tenant, term.name) for term in self.suspended_fleets}
        return self._to_go(existing_keys, declared_keys, self.absent_fleets)

    def templates_to_go(self, templates: Iterable[Template]) -> dict[Key, str]:
        """Return the existing templates to delete, each with the reason."""
        existing_keys = {(template.record.tenant, template.record.name) for template in templates}
        declared_keys = {(term.spec.tenant, term.spec.name) for term in self.templates}
        # A declared template can be derived from one that is not declared, which stays.
        parent_keys = {
            (term.spec.tenant, term.spec.parent) for term in self.templates if term.spec.parent
        }
        return self._to_go(existing_keys, declared_keys | parent_keys, self.absent_templates)

    def pools_to_go(self, pools: Iterable[PoolRecord]) -> dict[Key, str]:
        """Return the existing pools to delete, each with the reason."""
        existing_keys = {(pool.tenant, pool.name) for pool in pools}
        return self._to_go(
            existing_keys,
            {(pool.spec.tenant, pool.spec.name) for pool in self.pools},
            self.absent_pools,
        )

    def endpoints_to_go(self, existing_keys: set[Key]) -> dict[Key, str]:
        """Return the existing endpoints to delete, each with the reason."""
        return self._to_go(
            existing_keys,
            {(term.spec.tenant, term.spec.name) for term in self.endpoints},
            self.absent_endpoints,
        )

    def _to_go(
        self, existing_keys: set[Key], declared_keys: set[Key], absent_keys: Collection[Key]
    ) -> dict[Key, str]:
        # An empty list is more likely a mistake than an intention: it deletes nothing.
        pruned = self.prune == "force" or (self.prune == "yes" and bool(declared_keys))
        reasons = {key: ABSENT for key in sorted(existing_keys) if key in absent_keys}
        if pruned:
            reasons |= {
                key: "it is no longer declared"
                for key in sorted(existing_keys - declared_keys)
                if key not in absent_keys
            }
        return reasons


def gone_by(actions: Iterable[Action]) -> set[str]:
    """Return the names of the hosts that these actions delete or replace."""
    return {
        action.name
        for action in actions
        if action.kind == "host" and action.verb in ("delete", "replace")
    }


def _parents_first(terms: tuple[T, ...]) -> tuple[T, ...]:
    """Return pools or templates, each after its parent."""
    remaining_terms, ordered_terms = list(terms), list[T]()
    while remaining_terms:
        waiting_keys = {(term.spec.tenant, term.spec.name) for term in remaining_terms}
        # A circle of parents is reported separately.
        ready_terms = [
            term
            for term in remaining_terms
            if (term.spec.tenant, term.spec.parent) not in waiting_keys
        ] or remaining_terms
        ordered_terms += ready_terms
        remaining_terms = [term for term in remaining_terms if term not in ready_terms]
    return tuple(ordered_terms)


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
    used_bindings: set[tuple[str, int]] = set()
    for spec in fleets:
        unshared = not spec.host.bind or spec.host.network or not spec.least
        bindings = frozenset(
            (spec.host.bind, port) for port in (() if unshared else spec.host.ports)
        )
        conflict = network.clash(bindings, used_bindings)
        if conflict:
            raise InvalidInput(
                f"port {conflict[1]} cannot be published on {conflict[0]}: another fleet of the "
                "declaration publishes it there.",
                name=f"fleet {spec.name}",
                remedy="choose another port or another address (bind)",
            )
        used_bindings |= bindings


def _served_apart(endpoints: Iterable[EndpointSpec]) -> None:
    """Refuse endpoints that would share a socket, an address and port, or an image host."""
    used_places: dict[str, str] = {}
    for spec in endpoints:
        for place in (*spec.record.places, f"image host {spec.tenant}/{spec.image_host}"):
            if place in used_places:
                raise InvalidInput(
                    f"endpoint {used_places[place]} of the declaration has {place}, too.",
                    name=f"endpoint {spec.name}",
                    remedy="choose another one",
                )
            used_places[place] = spec.name


def _no_circle(kind: str, parents: dict[Key, str], message: str) -> None:
    """Refuse pools that are inside themselves, and templates that are derived from themselves."""
    for (tenant, name), parent in parents.items():
        ancestor, visited = parent, {name}
        while ancestor and ancestor not in visited:
            visited.add(ancestor)
            ancestor = parents.get((tenant, ancestor), "")
        if ancestor == name:
            raise InvalidInput(message, name=f"{kind} {name}", remedy="name another parent")
