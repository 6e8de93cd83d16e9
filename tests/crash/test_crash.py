# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller dies of SIGKILL at any instant: one more run converges, one reap leaves exactly what
is declared.

Each run takes other instants. The seed of one that failed is in its name;
``STOCKYARD_CRASH_SEEDS=4711`` replays it, and several with commas between them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from stockyard import Yard
from tests.crash.conftest import CrashBench, seeds
from tests.crash.jobs import HELD, JOBS, declared

SEEDS = seeds(60)
# Of real guests so many each time: one of each job at least.
SHORT = len(JOBS)
# Jobs that copy the memory of guests. Together with those above, real guests see 60 of them.
MEMORY = ("branch", "derive", "resume", "suspend")
MORE = 60 - len(SEEDS) // len(JOBS) * len(MEMORY)
REAL, LONG = [pytest.mark.real], [pytest.mark.real, pytest.mark.full]
INSTANTS = [
    *(pytest.param("memory", seed, id=f"memory-{seed}") for seed in SEEDS),
    *(
        pytest.param("libvirt", seed, id=f"libvirt-{seed}", marks=LONG if number >= SHORT else REAL)
        for number, seed in enumerate(SEEDS)
    ),
]


@pytest.mark.parametrize(("bench", "seed"), INSTANTS, indirect=["bench"])
def test_one_run_and_one_reap_after_a_kill_leave_the_declared_objects(
    bench: CrashBench, seed: int
) -> None:
    survive(bench, seed, sorted(JOBS))


@pytest.mark.real
@pytest.mark.full
@pytest.mark.parametrize("bench", ["libvirt"], indirect=True)
@pytest.mark.parametrize("seed", seeds(MORE))
def test_kill_of_a_job_that_copies_memory_leaves_the_declared_objects(
    bench: CrashBench, seed: int
) -> None:
    survive(bench, seed, MEMORY)


def survive(bench: CrashBench, seed: int, names: Sequence[str]) -> None:
    """Kill one job, and check that one run and one reap leave the declared objects."""
    draw = random.Random(seed)  # noqa: S311  # to be drawn again, not to be secret
    name, part = names[seed % len(names)], draw.random()
    print(
        f"seed {seed}: {name}, killed at {part:.3f} of it; replay with STOCKYARD_CRASH_SEEDS={seed}"
    )
    bench.kill(name, part)
    job = JOBS[name]
    with bench.settings.open(job.ahead) as yard:
        before = {h.uuid for h in yard.hosts.list(fleet="crash")}
        job.rerun(bench.settings, yard)
        check(bench, yard, name)
        if job.same_hosts:
            assert {h.uuid for h in yard.hosts.list(fleet="crash")} == before
        yard.reap(grace=0)
        check(bench, yard, name)
        nothing_else(bench, yard, name)


def check(bench: CrashBench, yard: Yard, name: str) -> None:
    """Check that the declared objects exist and are ready, and that another run changes nothing."""
    spec, hosts = declared(bench.settings, name), yard.hosts.list()
    # Which numbers they have depends on which were there when others took their places.
    assert len({h.name for h in hosts}) == len(hosts) == (spec.count if spec else 0)
    assert all(h.ready and not h.drift for h in hosts)
    assert all(h.ports == spec.host.ports for h in hosts if spec)
    holders = [h.lease.holder for h in hosts if h.lease]
    assert holders == ([HELD.holder] if name == "lease" else [])
    volumes = {v.name: v.host for v in yard.volumes.list()}
    # Of real hosts there are fewer.
    current_names = ("", *(h.name for h in hosts))
    assert volumes == {
        name: host for name, host in JOBS[name].volumes.items() if host in current_names
    }
    assert all(v.phase == "ready" and v.mounted == bool(v.host) for v in yard.volumes.list())
    if spec:
        assert [str(a) for a in yard.fleets.apply(spec, check=True).plan.actions] == []
    if name == "lease":
        assert [str(a) for a in yard.leases.ensure(HELD, check=True).plan.actions] == []


def nothing_else(bench: CrashBench, yard: Yard, name: str) -> None:
    """No machine, file, lock or key that is not declared."""
    observed = yard.context.provider.observe(bench.settings.owner)
    records = [h.record for h in observed.hosts] + [t.record for t in observed.templates]
    assert bench.inventory() == {
        "machines": {r.domain for r in records},
        "files": {r.uuid for r in records},
        "locks": set(),
        "secrets": {f"leases/{h.record.lease.id}" for h in observed.hosts if h.record.lease},
        "volumes": {v.uuid for v in yard.volumes.list()},
        "rest": set(),
    }
    declared_objects = bench.settings.keep or declared(bench.settings, name)
    assert len(observed.templates) == (1 if declared_objects else 0)
