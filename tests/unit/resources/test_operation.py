# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations: what check mode plans is what a run does, and check mode changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stockyard import (
    Client,
    Declaration,
    FleetSpec,
    FleetTerm,
    LeaseSpec,
    PoolSpec,
    SingleSpec,
    TemplateSpec,
    TemplateTerm,
    VolumeSpec,
    VolumeTerm,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.planning.plan import Plan
from stockyard.providers.open import open_provider
from stockyard.resources.certificates import clients
from stockyard.resources.context import Context
from stockyard.resources.fleets.converge_fleet import FleetConvergence, FleetDeletion
from stockyard.resources.fleets.single_host import SingleHostConvergence
from stockyard.resources.fleets.suspend_fleet import FleetResume, FleetSuspension
from stockyard.resources.leases.lease_lifecycle import HolderLease, LeaseResult
from stockyard.resources.operation import Operation, run
from stockyard.resources.pools.pool_lifecycle import PoolConvergence, PoolDeletion
from stockyard.resources.templates.build_template import TemplateConvergence, TemplateDeletion
from stockyard.resources.volumes.volume_lifecycle import (
    VolumeAttachment,
    VolumeConvergence,
    VolumeDeletion,
    VolumeDetachment,
)
from stockyard.resources.yard.converge_yard import YardConvergence
from stockyard.resources.yard.reap_yard import ReapResult, YardReaping
from stockyard.resources.yard.suspend_yard import YardResume, YardSuspension
from stockyard.resources.yard.teardown import YardDeletion
from tests.helpers.clocks import FakeClock
from tests.helpers.counting_provider import CountingProvider

# The calls that read.
READS = {
    "observe",
    "volumes.observe",
    "capacity",
    "channel",
    "check_host",
    "check_start",
    "check_suspend",
    "check_template",
    "resolve",
    "sweep",
    "versions",
    "volumes.sweep",
}
DATA = VolumeSpec("data")
YARD = Declaration(
    (TemplateTerm(TemplateSpec("base")),),
    (FleetTerm(FleetSpec("ci", "base", count=3)),),
    volumes=(VolumeTerm(VolumeSpec("more")),),
)
OPERATIONS: dict[str, Callable[[Context], Operation[Plan | LeaseResult | ReapResult]]] = {
    "template": lambda ctx: TemplateConvergence(ctx, TemplateSpec("base", docker="stopped")),
    "template unchanged": lambda ctx: TemplateConvergence(ctx, TemplateSpec("base")),
    "template deletion": lambda ctx: TemplateDeletion(ctx, "default", "unused"),
    "fleet": lambda ctx: FleetConvergence(ctx, FleetSpec("ci", "base", count=3)),
    "fleet unchanged": lambda ctx: FleetConvergence(ctx, FleetSpec("ci", "base", count=2)),
    "fleet deletion": lambda ctx: FleetDeletion(ctx, "default", "ci"),
    "host": lambda ctx: SingleHostConvergence(ctx, SingleSpec("web", "base"), "present"),
    "host restart": lambda ctx: SingleHostConvergence(ctx, SingleSpec("ci-1"), "restarted"),
    "host replacement": lambda ctx: SingleHostConvergence(ctx, SingleSpec("ci-1"), "replaced"),
    "host deletion": lambda ctx: SingleHostConvergence(ctx, SingleSpec("ci-1"), "absent"),
    "host suspension": lambda ctx: SingleHostConvergence(ctx, SingleSpec("ci-1"), "suspended"),
    "host resume unchanged": lambda ctx: SingleHostConvergence(ctx, SingleSpec("ci-1"), "resumed"),
    "fleet suspension": lambda ctx: FleetSuspension(ctx, "default", "ci"),
    "fleet resume unchanged": lambda ctx: FleetResume(ctx, "default", "ci"),
    "yard suspension": YardSuspension,
    "yard resume unchanged": YardResume,
    "volume": lambda ctx: VolumeConvergence(ctx, VolumeSpec("data", size_gib=20)),
    "volume deletion": lambda ctx: VolumeDeletion(ctx, "default", "free"),
    "attachment": lambda ctx: VolumeAttachment(ctx, VolumeSpec("free"), "ci-2", "/free"),
    "attachment of a new volume": lambda ctx: VolumeAttachment(
        ctx, VolumeSpec("new"), "ci-2", "/new"
    ),
    "detachment": lambda ctx: VolumeDetachment(ctx, "default", "data"),
    "pool": lambda ctx: PoolConvergence(ctx, PoolSpec("team", hosts=9)),
    "pool deletion": lambda ctx: PoolDeletion(ctx, "default", "team"),
    "lease": lambda ctx: HolderLease(ctx, LeaseSpec("job", "ci")),
    "certificate": lambda ctx: clients.CertificateIssue(ctx, Client("eve")),
    "yard": lambda ctx: YardConvergence(ctx, YARD),
    "yard deletion": lambda ctx: YardDeletion(ctx, templates=True, volumes=True),
    "reaping": lambda ctx: YardReaping(ctx, 3600.0),
}


@pytest.fixture
def provider(uri: str) -> CountingProvider:
    """A hypervisor whose calls are counted."""
    return CountingProvider(open_provider(uri))


@pytest.fixture
def filled(provider: CountingProvider, clock: FakeClock, tmp_path: Path) -> Iterator[Yard]:
    """A yard with two templates, two hosts, two volumes and a pool."""
    keys = str(tmp_path / "pki")
    with Yard(provider=provider.as_provider(), clock=clock, pki_dir=keys) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.templates.apply(TemplateSpec("unused"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        yard.volumes.attach(DATA, host="ci-1", path="/data")
        yard.volumes.apply(VolumeSpec("free"))
        yard.pools.apply(PoolSpec("team", hosts=5))
        yield yard


def actions(result: Plan | LeaseResult | ReapResult) -> list[tuple[str, str]]:
    plan = result if isinstance(result, Plan) else result.plan
    return [(action.verb, action.kind) for action in plan.actions]


@pytest.mark.parametrize("name", OPERATIONS)
def test_plan_of_an_operation_equals_its_actions(
    name: str, filled: Yard, provider: CountingProvider
) -> None:
    operation = OPERATIONS[name]
    provider.calls.clear()
    planned = actions(run(operation(filled.context), check=True, timeout=600.0))
    assert set(provider.calls) <= READS
    applied = actions(run(operation(filled.context), check=False, timeout=600.0))
    assert applied == planned
    assert bool(planned) == (not name.endswith("unchanged") and name != "reaping")


@dataclass(frozen=True)
class Recorder:
    """An operation that notes which of its methods is called."""

    ctx: Context
    called: list[str] = field(default_factory=list)

    def plan(self) -> Plan:
        self.called.append("plan")
        return Plan()

    def apply(self, deadline: Deadline) -> Plan:
        self.called.append(f"apply {deadline.seconds:g}")
        return Plan()


@pytest.mark.parametrize(("check", "called"), [(True, "plan"), (False, "apply 5")])
def test_check_mode_decides_between_plan_and_apply(check: bool, called: str, bare: Yard) -> None:
    operation = Recorder(bare.context)
    run(operation, check=check, timeout=5.0)
    assert operation.called == [called]
