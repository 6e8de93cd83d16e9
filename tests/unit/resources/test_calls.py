# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number of calls that each operation makes to its hypervisor.

An operation observes once under its lock and passes the observation on. It observes a second time
only to see the effect of a step: fleets and hosts to pin SSH host keys, templates to find hosts
that use old generations. The returned objects are one more observation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    LeaseSpec,
    SingleSpec,
    TemplateSpec,
    TemplateTerm,
    VolumeSpec,
    VolumeTerm,
    VolumeUse,
    Yard,
)
from stockyard.guest import security
from stockyard.guest.docker_packages import DockerPackages
from stockyard.model.security import Settings
from stockyard.providers.open import open_provider
from tests.helpers.clocks import FakeClock
from tests.helpers.counting_provider import CountingProvider

Act = Callable[[Yard], object]
TEMPLATE = TemplateSpec("base")
FLEET = FleetSpec("ci", "base", count=3)
DATA = FleetSpec("db", "base", count=1, host=HostSpec(volumes=(VolumeUse("{host}-data", "/data"),)))
CACHE = VolumeSpec("cache")
LEASE = LeaseSpec("job", "ci")
YARD = Declaration((TemplateTerm(TEMPLATE),), (FleetTerm(FLEET),), volumes=(VolumeTerm(CACHE),))


@pytest.fixture
def provider(uri: str) -> CountingProvider:
    """A hypervisor whose calls are counted."""
    return CountingProvider(open_provider(uri))


@pytest.fixture
def bare(provider: CountingProvider, clock: FakeClock, tmp_path: Path) -> Iterator[Yard]:
    """A yard with nothing in it."""
    keys = str(tmp_path / "pki")
    with Yard(provider=provider.as_provider(), clock=clock, pki_dir=keys) as opened:
        yield opened


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SSH user of each recipe that is rendered."""
    users: list[str] = []
    bundle = security.bundle

    def count(settings: Settings, user: str, docker: DockerPackages) -> security.Bundle:
        users.append(user)
        return bundle(settings, user, docker)

    monkeypatch.setattr(security, "bundle", count)
    return users


def build(yard: Yard) -> None:
    yard.templates.apply(TEMPLATE)


def fill(yard: Yard) -> None:
    build(yard)
    yard.fleets.apply(FLEET)


def suspend(yard: Yard) -> None:
    yard.fleets.suspend("ci")


def create_volume(yard: Yard) -> None:
    yard.volumes.apply(CACHE)


def attach(yard: Yard) -> None:
    yard.volumes.attach(CACHE, host="ci-1", path="/cache")


def lease(yard: Yard) -> None:
    yard.leases.ensure(LEASE)


def converge(yard: Yard) -> None:
    yard.apply(YARD)


class Case(NamedTuple):
    """One operation and the limits of its calls.

    :param prepared: operations before it, which are not counted.
    :param observed: observations of the hypervisor, which include volumes.
    :param volumes_observed: observations of volumes alone.
    :param calls: calls of any kind.
    """

    prepared: tuple[Act, ...]
    act: Act
    observed: int
    volumes_observed: int
    calls: int


OPERATIONS = {
    "build a template": Case((), build, 3, 0, 12),
    "build no template": Case((build,), build, 2, 0, 4),
    "create a fleet": Case((build,), lambda y: y.fleets.apply(FLEET), 3, 0, 33),
    "create a fleet with volumes": Case((build,), lambda y: y.fleets.apply(DATA), 3, 1, 24),
    "change no fleet": Case((fill,), lambda y: y.fleets.apply(FLEET), 3, 0, 13),
    "plan a fleet": Case((build,), lambda y: y.fleets.apply(FLEET, check=True), 2, 0, 4),
    "delete a fleet": Case((fill,), lambda y: y.fleets.delete("ci"), 3, 3, 13),
    "create a host": Case((build,), lambda y: y.hosts.apply(SingleSpec("web", "base")), 4, 0, 16),
    "replace a host": Case((fill,), lambda y: y.hosts.replace("ci-1"), 4, 1, 20),
    "restart a host": Case((fill,), lambda y: y.hosts.restart("ci-1"), 4, 1, 14),
    "suspend a fleet": Case((fill,), lambda y: y.fleets.suspend("ci"), 2, 0, 10),
    "resume a fleet": Case((fill, suspend), lambda y: y.fleets.resume("ci"), 2, 3, 30),
    "suspend a host": Case((fill,), lambda y: y.hosts.suspend("ci-1"), 4, 0, 8),
    "create a volume": Case((), create_volume, 0, 2, 6),
    "change no volume": Case((create_volume,), create_volume, 0, 2, 4),
    "delete a volume": Case((create_volume,), lambda y: y.volumes.delete("cache"), 1, 1, 5),
    "attach a new volume": Case((fill,), attach, 1, 1, 12),
    "attach a volume": Case((fill, create_volume), attach, 1, 1, 10),
    "attach no volume": Case((fill, attach), attach, 1, 1, 4),
    "grow an attached volume": Case(
        (fill, attach), lambda y: y.volumes.apply(VolumeSpec("cache", size_gib=20)), 1, 2, 8
    ),
    "detach a volume": Case((fill, attach), lambda y: y.volumes.detach("cache"), 1, 1, 7),
    "lease a host": Case((fill,), lease, 1, 0, 4),
    "release a lease": Case((fill, lease), lambda y: y.leases.release_held(LEASE), 4, 1, 7),
    "converge a yard": Case((), converge, 7, 1, 49),
    "change no yard": Case((converge,), converge, 6, 1, 19),
    "plan a yard": Case((), lambda y: y.apply(YARD, check=True), 2, 0, 7),
    "tear a yard down": Case(
        (converge,), lambda y: y.teardown(templates=True, volumes=True), 6, 3, 22
    ),
    "reap a yard": Case((fill,), lambda y: y.reap(), 1, 0, 3),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_number_of_observations_of_an_operation_is_bounded(
    operation: str, bare: Yard, provider: CountingProvider
) -> None:
    case = OPERATIONS[operation]
    for act in case.prepared:
        act(bare)
    provider.calls.clear()
    case.act(bare)
    observed = (provider.calls["observe"], provider.calls["volumes.observe"])
    assert observed == (case.observed, case.volumes_observed)
    assert provider.calls.total() <= case.calls


@pytest.mark.parametrize("count", [1, 4])
def test_observations_of_a_fleet_do_not_grow_with_its_hosts(
    count: int, bare: Yard, provider: CountingProvider
) -> None:
    build(bare)
    provider.calls.clear()
    bare.fleets.apply(FleetSpec("ci", "base", count=count))
    assert provider.calls["observe"] == 3


def test_template_build_renders_its_recipe_once(bare: Yard, renderings: list[str]) -> None:
    build(bare)
    assert len(renderings) == 1


def test_unchanged_template_renders_its_recipe_once(bare: Yard, renderings: list[str]) -> None:
    build(bare)
    renderings.clear()
    build(bare)
    assert len(renderings) == 1
