# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: on record, changed by compare and set, and asked at the moment when a host is reserved."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Conflict, NotFound, OperationRefused, PoolQuotaExceeded
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import HostRecord, HostSpec
from stockyard.model.pool import PoolRecord, PoolSpec
from stockyard.model.size import Size
from stockyard.model.template import TemplateRecord
from tests.contract.conftest import Drafts, on_record
from tests.contract.test_records import race

SIZE = Size(1, 512, 4)


class Pools:
    """Pools of one test, deleted after it and after their hosts."""

    def __init__(self, provider: Provider, owner: str, drafts: Drafts) -> None:
        self.provider = provider
        self.owner = owner
        self.drafts = drafts
        self.made: list[PoolRecord] = []

    def __call__(self, parent: str = "", **limits: Any) -> PoolRecord:
        own = uuid.uuid4()
        spec = PoolSpec(f"contract-{own.hex[:8]}", parent=parent, **limits)
        record = self.provider.pools.put(PoolRecord(self.owner, str(own), spec, 1.0))
        self.made.append(record)
        return record

    def inside(self, pool: PoolRecord) -> HostRecord:
        """A host that is declared in a pool."""
        return self.drafts(spec=HostSpec(pool=pool.name), size=SIZE)

    def reserve(self, provider: Provider, host: HostRecord) -> None:
        provider.create_host(host, self.drafts.template)

    def found(self, provider: Provider, pool: PoolRecord) -> PoolRecord | None:
        return next((p for p in provider.observe(self.owner).pools if p.uuid == pool.uuid), None)


@pytest.fixture
def pools(provider: Provider, frozen_template: TemplateRecord, drafts: Drafts) -> Iterator[Pools]:
    pools_of_test = Pools(provider, frozen_template.owner, drafts)
    yield pools_of_test
    drafts.clean()
    for record in reversed(pools_of_test.made):
        provider.pools.delete(record)
        assert pools_of_test.found(provider, record) is None


def test_the_capacity_of_a_hypervisor_is_known_or_zero(provider: Provider) -> None:
    capacity = provider.capacity()
    assert (capacity.vcpus > 0) == (capacity.memory_mib > 0)
    assert capacity.disk_gib == 0


def test_a_pool_is_on_record_for_its_owner(
    provider: Provider, second: Provider, pools: Pools
) -> None:
    record = pools(hosts=3, memory_mib=2048, memory_overcommit=1.5)
    assert record.version == 1
    assert pools.found(second, record) == record
    assert record not in provider.observe("contract-other").pools
    changed = second.pools.put(replace(record, spec=replace(record.spec, hosts=5)))
    assert pools.found(provider, record) == changed
    with pytest.raises(Conflict, match="the record was changed by another controller"):
        provider.pools.put(record)
    assert provider.pools.facts(changed).enforced in ("admission", "cgroup", "resource pool")


def test_a_name_is_given_once(provider: Provider, pools: Pools) -> None:
    first = pools()
    with pytest.raises(Conflict):
        provider.pools.put(replace(first, uuid=str(uuid.uuid4()), version=0))
    assert pools.found(provider, first) == first


def test_full_pool_admits_no_host(provider: Provider, pools: Pools) -> None:
    outer = pools(memory_mib=1024)
    inner = pools(outer.name, hosts=9)
    for host in (pools.inside(inner), pools.inside(outer)):
        pools.reserve(provider, host)
    refused = pools.inside(inner)
    with pytest.raises(
        PoolQuotaExceeded, match="1024 of 1024 MiB of memory are used, and 512 more are needed"
    ):
        pools.reserve(provider, refused)
    assert on_record(provider, refused) is None
    provider.pools.put(replace(outer, spec=replace(outer.spec, memory_mib=2048)))
    pools.reserve(provider, refused)


def test_deleted_host_frees_its_quota(provider: Provider, second: Provider, pools: Pools) -> None:
    pool = pools(hosts=1)
    first, second_record = pools.inside(pool), pools.inside(pool)
    pools.reserve(provider, first)
    with pytest.raises(PoolQuotaExceeded):
        pools.reserve(provider, second_record)
    second.destroy(first)
    pools.reserve(provider, second_record)


def test_a_host_that_runs_counts(
    provider: Provider, second: Provider, pools: Pools, deadline: Deadline
) -> None:
    pool = pools(hosts=1)
    host = pools.inside(pool)
    pools.reserve(provider, host)
    provider.fork(host, pools.drafts.template, provider.capabilities.modes[0], deadline)
    with pytest.raises(PoolQuotaExceeded):
        pools.reserve(second, pools.inside(pool))
    with pytest.raises(OperationRefused):
        second.pools.delete(pool)


def test_one_of_two_requests_for_the_last_place_succeeds(
    provider: Provider, second: Provider, pools: Pools
) -> None:
    for _try in range(3):
        pool = pools(hosts=1)
        rivals = [pools.inside(pool), pools.inside(pool)]
        won = race(
            partial(pools.reserve, provider, rivals[0]), partial(pools.reserve, second, rivals[1])
        )
        assert sorted(won) == [False, True]


def test_shrinking_and_admission_are_serialized(
    provider: Provider, second: Provider, pools: Pools
) -> None:
    for _try in range(3):
        pool = pools(hosts=2)
        pools.reserve(provider, pools.inside(pool))
        smaller = replace(pool, spec=replace(pool.spec, hosts=1))
        act: list[Callable[[], object]] = [
            partial(pools.reserve, provider, pools.inside(pool)),
            partial(second.pools.put, smaller),
        ]
        assert sorted(race(*act)) == [False, True]


def test_pool_with_members_is_not_deleted(provider: Provider, pools: Pools) -> None:
    outer = pools()
    inner = pools(outer.name, hosts=2)
    pools.reserve(provider, pools.inside(inner))
    for pool in (outer, inner):
        with pytest.raises(OperationRefused):
            provider.pools.delete(pool)
    with pytest.raises(OperationRefused, match="smaller"):
        provider.pools.put(replace(inner, spec=replace(inner.spec, memory_mib=256)))
    forced = provider.pools.put(
        replace(inner, spec=replace(inner.spec, memory_mib=256)), force=True
    )
    assert pools.found(provider, inner) == forced


def test_missing_pool_refuses_hosts(provider: Provider, pools: Pools) -> None:
    pool = pools()
    host = pools.inside(pool)
    provider.pools.delete(pool)
    provider.pools.delete(pool)
    with pytest.raises(NotFound, match="the pool does not exist"):
        pools.reserve(provider, host)
    with pytest.raises(NotFound):
        pools(pool.name)
