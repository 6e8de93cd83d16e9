# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: what may be declared, and whether something has room, by a model of what limits mean."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import HostMemory
from stockyard.errors import InvalidInput, NotFound, OperationRefused, PoolQuotaExceeded
from stockyard.model import codec
from stockyard.model.fleet import FleetSpec
from stockyard.model.host import HostRecord, HostSpec
from stockyard.model.lease import LeaseSpec
from stockyard.model.pool import LIMITS, PoolRecord, PoolSpec
from stockyard.model.size import Size
from stockyard.planning import memory_pressure, quota
from stockyard.planning.plan import Action, Plan
from tests.helpers.samples import HOSTILE, host_record

SMALL = Size(1, 512, 4)
SIZES = st.builds(Size, st.integers(0, 4), st.integers(0, 4096), st.integers(0, 20))
SPECS = st.builds(
    PoolSpec,
    st.just("inner"),
    parent=st.sampled_from(["", "outer"]),
    hosts=st.integers(0, 6),
    vcpus=st.integers(0, 12),
    memory_mib=st.integers(0, 8192),
    memory_overcommit=st.floats(1, 4),
    disk_gib=st.integers(0, 60),
)


def pool(spec: PoolSpec | None = None, **options: Any) -> PoolRecord:
    return PoolRecord(
        "stockyard", str(uuid.uuid4()), spec or PoolSpec(**{"name": "ci", **options}), 1.0, 1
    )


def member(name: str, pool: str = "ci", size: Size = SMALL, **changes: Any) -> HostRecord:
    return host_record(name=name, spec=HostSpec(pool=pool), size=size, **changes)


def members(count: int, pool: str = "ci") -> list[HostRecord]:
    return [member(f"ci-{n}", pool) for n in range(1, count + 1)]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_no_pool_can_have(name: str) -> None:
    with pytest.raises(InvalidInput):
        PoolSpec(name)
    if name:
        with pytest.raises(InvalidInput):
            PoolSpec("ci", parent=name)
        with pytest.raises(InvalidInput):
            HostSpec(pool=name)
        with pytest.raises(InvalidInput):
            LeaseSpec("me", pool=name)
    with pytest.raises(InvalidInput):
        FleetSpec("ci", "base", on_full=name)


@pytest.mark.parametrize(
    "options",
    [
        *({limit: value} for limit in LIMITS for value in (-1, True, 1.5, 1 << 40)),
        *(
            {"memory_overcommit": value}
            for value in (0.9, -1, float("nan"), float("inf"), True, 65)
        ),
        *({"cpu_shares": -1}, {"memory_reservation_mib": -1}, {"parent": "ci"}),
        {"memory_mib": 512, "memory_reservation_mib": 513},
    ],
)
def test_numbers_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        PoolSpec(**{"name": "ci", **options})


@given(SPECS)
def test_record_is_equal_after_encoding_and_decoding(spec: PoolSpec) -> None:
    record = pool(spec)
    assert codec.from_dict(PoolRecord, codec.to_dict(record)) == record


@given(SPECS, SPECS, st.lists(SIZES, max_size=8))
def test_admission_fills_the_pool_up_to_each_limit(
    inner: PoolSpec, outer: PoolSpec, sizes: list[Size]
) -> None:
    pools = [pool(inner), pool(replace(outer, name="outer", parent=""))]
    members_then: list[HostRecord] = []
    for number, size in enumerate(sizes):
        newcomer = member(f"ci-{number}", "inner", size)
        fits = quota.book(pools, members_then).room("default", "inner", size) > 0
        around = pools if inner.parent else pools[:1]
        assert fits != any(exceeded(p.spec, [*members_then, newcomer]) for p in around)
        if fits:
            quota.check_quota(newcomer, pools, members_then)
            members_then.append(newcomer)
        else:
            with pytest.raises(PoolQuotaExceeded, match="more are needed"):
                quota.check_quota(newcomer, pools, members_then)


def exceeded(spec: PoolSpec, hosts: list[HostRecord]) -> bool:
    """The meaning of limits, written once more."""
    sums = {
        "hosts": len(hosts),
        "vcpus": sum(h.size.vcpus for h in hosts),
        "disk_gib": sum(h.size.disk_gib for h in hosts),
        "memory_mib": sum(h.size.memory_mib for h in hosts),
    }
    most = {"hosts": spec.hosts, "vcpus": spec.vcpus, "disk_gib": spec.disk_gib}
    most["memory_mib"] = int(spec.memory_mib * spec.memory_overcommit)
    return any(most[name] and sums[name] > most[name] for name in sums)


def test_the_refusal_has_the_numbers() -> None:
    pools = [pool(hosts=2, memory_mib=1024, memory_overcommit=1.5)]
    with pytest.raises(PoolQuotaExceeded) as refused:
        quota.check_quota(member("ci-9", size=Size(1, 1024, 4)), pools, members(2))
    assert refused.value.cause == (
        "pool ci: 2 of 2 hosts are used, and 1 more are needed; "
        "1024 of 1536 MiB (1024 MiB of memory, 1.5 times over) are used, and 1024 more are needed"
    )


def test_others_count_nowhere() -> None:
    unreadable = [
        member("ci-1", owner="other"),
        member("ci-2", tenant="other"),
        member("ci-3", ""),
        member("ci-4", "elsewhere"),
    ]
    pools = [pool(hosts=1), replace(pool(hosts=9), owner="other")]
    quota.check_quota(member("ci-9"), pools, unreadable)
    with pytest.raises(PoolQuotaExceeded):
        quota.check_quota(member("ci-9"), pools, [*unreadable, member("ci-5")])


def test_missing_pool_admits_no_host() -> None:
    with pytest.raises(NotFound, match="the pool does not exist"):
        quota.check_quota(member("ci-1"), [], [])
    with pytest.raises(NotFound, match="it is the parent of pool ci"):
        quota.check_quota(member("ci-1"), [pool(parent="gone")], [])


def test_pools_in_each_other_are_refused() -> None:
    ring = [pool(name="a", parent="b"), pool(name="b", parent="a")]
    with pytest.raises(OperationRefused, match="the pool is inside more than"):
        quota.check_change(ring[0], ring, [], force=False)
    with pytest.raises(OperationRefused):
        quota.check_quota(member("ci-1", "a"), ring, [])


def test_pool_shrinks_down_to_its_members() -> None:
    outer, inner = pool(name="outer", hosts=4), pool(name="ci", parent="outer", hosts=4)
    quota.check_change(
        pool(name="ci", parent="outer", hosts=3), [outer, inner], members(3), force=False
    )
    with pytest.raises(OperationRefused, match="smaller") as refused:
        quota.check_change(
            pool(name="ci", parent="outer", hosts=2), [outer, inner], members(3), force=False
        )
    assert "3 of 2 hosts" in refused.value.cause
    quota.check_change(
        pool(name="ci", parent="outer", hosts=2), [outer, inner], members(3), force=True
    )


def test_pool_with_members_is_not_deleted() -> None:
    outer, inner = pool(name="outer"), pool(name="ci", parent="outer")
    with pytest.raises(OperationRefused, match="pool ci"):
        quota.check_removal(outer, [outer, inner], [])
    with pytest.raises(OperationRefused, match="host ci-1"):
        quota.check_removal(inner, [outer, inner], members(1))
    quota.check_removal(inner, [outer, inner], [member("ci-1", "outer")])


def make(name: str, verb: str = "create", wave: int = 0) -> Action:
    return Action(verb, "host", name, "", {}, {}, wave)


def test_plan_ends_at_the_limits_of_the_pool() -> None:
    todo = Plan(tuple(make(f"ci-{n}") for n in range(1, 6)))
    admission = quota.admit_plan(todo, quota.book([pool(hosts=3)], []), "default", "ci", SMALL, [])
    assert [a.name for a in admission.plan.actions] == ["ci-1", "ci-2", "ci-3"]
    assert [a.name for a in admission.rejected] == ["ci-4", "ci-5"]
    assert admission.reason == "pool ci: 3 of 3 hosts are used, and 1 more are needed"


def test_deleted_host_frees_quota_for_a_new_one() -> None:
    current = members(2)
    todo = Plan((make("ci-1", "replace"), make("ci-2", "delete", 1), make("ci-9", "create", 1)))
    admission = quota.admit_plan(
        todo, quota.book([pool(hosts=2)], current), "default", "ci", SMALL, current
    )
    assert not admission.rejected
    early = Plan((make("ci-9", "create", 0), make("ci-2", "delete", 1)))
    assert quota.admit_plan(
        early, quota.book([pool(hosts=2)], current), "default", "ci", SMALL, current
    ).rejected


def test_a_larger_one_that_does_not_fit_leaves_the_old_one() -> None:
    current = members(2)
    book = quota.book([pool(memory_mib=1024)], current)
    todo = Plan((make("ci-1", "replace"), make("ci-2", "replace")))
    admission = quota.admit_plan(todo, book, "default", "ci", Size(1, 1024, 4), current)
    assert [a.name for a in admission.rejected] == ["ci-1", "ci-2"]
    assert book.use(book.pools["default", "ci"])["memory_mib"] == 1024


def held(name: str, private: float, score: int, nominal: int = 1024) -> HostMemory:
    return HostMemory(name, nominal, private, 100.0, score)


def test_overcommitted_pool_names_the_first_victim() -> None:
    both = [held("a", 300, 700), held("b", 600, 650)]
    assert memory_pressure.oom_candidate(both) == "a"
    assert memory_pressure.warnings(pool(memory_mib=2048), both, 4096) == []
    (close,) = memory_pressure.warnings(pool(memory_mib=1024), both, 4096)
    assert "900 MiB of private memory, and the pool has 1024 MiB" in close
    assert "machine of host a first" in close
    (short,) = memory_pressure.warnings(pool(), both, 1000)
    assert "can grow by 1148 MiB, and the hypervisor has 1000 MiB available" in short
    assert memory_pressure.warnings(pool(memory_mib=512), [], None) == []
