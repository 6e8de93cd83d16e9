# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools over the memory hypervisor: who gets in, growing and shrinking, and many at once."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Busy,
    Conflict,
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    LeaseSpec,
    NotFound,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    PoolTerm,
    SingleSpec,
    TemplateSpec,
    UpdateSpec,
    Yard,
)
from stockyard.providers.open import open_provider
from tests.helpers.clocks import BriskClock
from tests.helpers.faulty_provider import FaultyProvider

IN = HostSpec(pool="ci")


def fleet(count: int = 3, name: str = "ci", **options: Any) -> FleetSpec:
    return FleetSpec(name, "base", count=count, **{"host": IN, **options})


def names(yard: Yard) -> list[str]:
    return [h.name for h in yard.hosts.list()]


def used(yard: Yard, name: str = "ci") -> dict[str, int]:
    return asdict(yard.pools.get(name).used)


def test_pool_is_created_changed_and_deleted(yard: Yard) -> None:
    spec = PoolSpec("ci", hosts=2)
    assert [str(a) for a in yard.pools.apply(spec, check=True).plan.actions] == [
        "create pool ci: it does not exist"
    ]
    assert yard.pools.list() == ()
    (created_pool,) = yard.pools.apply(spec).objects
    assert (
        created_pool.hosts,
        created_pool.used.hosts,
        created_pool.free.hosts,
        created_pool.enforced,
    ) == (
        2,
        0,
        2,
        "admission",
    )
    assert not yard.pools.apply(spec).changed
    assert [str(a) for a in yard.pools.apply(PoolSpec("ci", hosts=3)).plan.actions] == [
        "change pool ci: hosts changed"
    ]
    assert yard.pools.delete("ci").changed
    assert not yard.pools.delete("ci").changed
    assert yard.pools.list() == ()


def test_hosts_beyond_the_quota_are_refused_before_any_change(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=10))
    for check in (True, False):
        with pytest.raises(PoolQuotaExceeded) as refused:
            yard.fleets.apply(fleet(20), check=check)
        assert "insufficient quota for 10 hosts (host ci-11, " in str(refused.value)
        assert "pool ci: 10 of 10 hosts are used, and 1 more are needed" in refused.value.cause
    assert names(yard) == []
    assert hypervisor.calls["create_host"] == 0


def test_partial_fleet_is_created_on_request(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=10))
    for _run in range(2):
        with pytest.raises(PoolQuotaExceeded, match="insufficient quota for 10 hosts"):
            yard.fleets.apply(fleet(20, on_full="fill"))
        assert len(names(yard)) == 10
    before = {h.name: h.uuid for h in yard.hosts.list()}
    yard.pools.apply(PoolSpec("ci", hosts=20))
    yard.fleets.apply(fleet(20, on_full="fill"))
    after = {h.name: h.uuid for h in yard.hosts.list()}
    assert len(after) == 20
    assert after.items() >= before.items()


def test_all_in_a_pool_counts_by_its_size(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("all", memory_mib=3072))
    yard.pools.apply(PoolSpec("ci", parent="all"))
    yard.fleets.apply(fleet(2))
    yard.hosts.apply(SingleSpec("one", "base", host=HostSpec(pool="all")))
    assert used(yard) == {"hosts": 2, "vcpus": 2, "memory_mib": 2048, "disk_gib": 16}
    assert used(yard, "all")["memory_mib"] == 3072
    assert yard.pools.list(name="all")[0].members == ("ci-1", "ci-2", "one")
    with pytest.raises(PoolQuotaExceeded, match="pool all: 3072 of 3072 MiB"):
        yard.hosts.apply(SingleSpec("two", "base", host=IN))
    yard.hosts.delete("one")
    yard.hosts.apply(SingleSpec("two", "base", host=IN))


def test_a_full_pool_is_rolled_with_one_missing(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=3))
    yard.fleets.apply(fleet(3))
    before = {h.uuid for h in yard.hosts.list()}
    yard.fleets.apply(fleet(3, host=HostSpec(pool="ci", ports=(8080,)), update=UpdateSpec(grace=0)))
    assert len(yard.hosts.list()) == 3
    assert not before & {h.uuid for h in yard.hosts.list()}


def test_a_pool_grows_and_shrinks_around_its_hosts(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=4))
    yard.fleets.apply(fleet(3))
    before = yard.hosts.list()
    with pytest.raises(OperationRefused, match="smaller"):
        yard.pools.apply(PoolSpec("ci", hosts=2))
    assert yard.pools.list()[0].hosts == 4
    yard.pools.apply(PoolSpec("ci", hosts=2), force=True)
    assert yard.hosts.list() == before
    assert yard.pools.list()[0].warnings == ("3 of 2 hosts are used; the pool admits no new hosts",)
    # Existing members are unchanged, and are repaired in place.
    assert not yard.fleets.apply(fleet(3)).changed
    with pytest.raises(PoolQuotaExceeded):
        yard.fleets.apply(fleet(4))
    yard.fleets.apply(fleet(1))
    yard.fleets.apply(fleet(2))


def test_pool_with_members_is_not_deleted(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("all"))
    yard.pools.apply(PoolSpec("ci", parent="all"))
    yard.fleets.apply(fleet(1))
    for name in ("all", "ci"):
        with pytest.raises(OperationRefused):
            yard.pools.delete(name)
    with pytest.raises(OperationRefused, match="cannot be moved"):
        yard.pools.apply(PoolSpec("ci"))
    with pytest.raises(NotFound):
        yard.pools.apply(PoolSpec("other", parent="gone"))


def test_a_pool_is_of_one_tenant(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", tenant="blue"))
    with pytest.raises(NotFound, match="the pool does not exist"):
        yard.fleets.apply(fleet(1))
    assert names(yard) == []


def test_a_lease_names_a_pool(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci"))
    yard.fleets.apply(fleet(1, "out", host=HostSpec()))
    yard.fleets.apply(fleet(1))
    taken_lease = yard.leases.ensure(LeaseSpec("me", pool="ci")).objects[0]
    assert taken_lease.host == "ci-1"
    with pytest.raises(Busy, match="pool ci"):
        yard.leases.ensure(LeaseSpec("you", pool="ci"))


def test_two_controllers_never_fill_a_pool_over(uri: str, tmp_path: Path) -> None:
    """Each has looked, and found room, before the other one reserved anything."""
    yards = [
        Yard(provider=open_provider(uri), clock=BriskClock(), pki_dir=str(tmp_path / "pki"))
        for _n in range(4)
    ]
    yards[0].templates.apply(TemplateSpec("base"))
    yards[0].pools.apply(PoolSpec("ci", hosts=5))
    errors: list[Exception] = []

    def work(yard: Yard, number: int) -> None:
        try:
            yard.fleets.apply(fleet(4, f"fleet-{number}"))
        except Exception as error:  # noqa: BLE001  # looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(yard, n)) for n, yard in enumerate(yards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(yards[0])) <= 5
    assert errors
    assert all("insufficient quota" in str(error) for error in errors)


def test_conflicting_change_is_refused(yard: Yard) -> None:
    pools = yard.context.provider.pools
    yard.pools.apply(PoolSpec("ci", hosts=4))
    (record,) = yard.context.provider.observe("stockyard").pools
    pools.put(record)
    with pytest.raises(Conflict, match="the record was changed by another controller"):
        pools.put(record)


def test_unreadable_pool_admits_no_host_and_is_unchanged(yard: Yard, tmp_path: Path) -> None:
    yard.pools.apply(PoolSpec("ci"))
    (path,) = (tmp_path / "hypervisor.d" / "pools").iterdir()
    whole = path.read_text()
    for text in ("", "{}", "[1]", "null", whole.replace('"ci"', '"di"'), "[" * 100000):
        path.write_text(text)
        (unreadable,) = yard.context.provider.observe("stockyard").unreadable
        assert unreadable.name == f"pool {path.stem}"
        assert str(path) in unreadable.reason
        with pytest.raises(NotFound):
            yard.fleets.apply(fleet(1))
        with pytest.raises(OperationRefused, match="nothing was changed"):
            yard.pools.apply(PoolSpec("ci"))
        assert path.read_text() == text
    path.write_text(whole)
    assert json.loads(whole)["spec"]["name"] == "ci"
    yard.fleets.apply(fleet(1))


def declared(count: int, most: int, **options: Any) -> Declaration:
    pools = (PoolTerm(PoolSpec("ci", parent="all", hosts=most)), PoolTerm(PoolSpec("all")))
    return Declaration(fleets=(FleetTerm(fleet(count)),), pools=pools, **options)


def test_a_whole_yard_has_pools(yard: Yard) -> None:
    site = declared(2, 2)
    planned = [str(a).partition(":")[0] for a in yard.apply(site, check=True).plan.actions]
    assert planned == ["create pool all", "create pool ci", "create host ci-1", "create host ci-2"]
    assert [str(a).partition(":")[0] for a in yard.apply(site).plan.actions] == planned
    assert not yard.apply(site).changed
    smaller = declared(1, 1)
    planned = [str(a).partition(":")[0] for a in yard.apply(smaller, check=True).plan.actions]
    assert planned == ["delete host ci-2", "change pool ci"]
    assert [str(a).partition(":")[0] for a in yard.apply(smaller).plan.actions] == planned
    larger = declared(3, 3)
    assert len(yard.apply(larger).plan.actions) == 3
    yard.apply(
        Declaration(
            absent_fleets=(("default", "ci"),), absent_pools=(("default", "all"), ("default", "ci"))
        )
    )
    assert yard.pools.list() == ()


def test_pools_that_are_not_declared_go_when_they_are_empty(yard: Yard) -> None:
    yard.apply(declared(1, 1))
    remaining = Declaration(pools=(PoolTerm(PoolSpec("other")),), prune="yes")
    yard.apply(remaining)
    # No fleet is declared, so no fleet goes, and what it is in stays.
    assert [p.name for p in yard.pools.list()] == ["all", "ci", "other"]
    yard.fleets.delete("ci")
    yard.apply(remaining)
    assert [p.name for p in yard.pools.list()] == ["other"]


def test_teardown_deletes_the_pools_of_the_yard(yard: Yard) -> None:
    yard.apply(declared(1, 1))
    yard.teardown()
    assert len(yard.pools.list()) == 2
    assert [str(a).partition(":")[0] for a in yard.teardown(templates=True).plan.actions][-2:] == [
        "delete pool ci",
        "delete pool all",
    ]
    assert yard.pools.list() == ()
