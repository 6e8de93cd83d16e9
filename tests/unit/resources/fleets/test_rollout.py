# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacing hosts over the memory hypervisor: never too many or too few, stopped by what fails,
whole after a death.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from stockyard import (
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    Declaration,
    FleetSpec,
    FleetTerm,
    GuestBroken,
    GuestError,
    HostSpec,
    HypervisorError,
    ImageSpec,
    InvalidInput,
    LeaseSpec,
    MissingDependency,
    OperationRefused,
    OutOfSpace,
    SingleSpec,
    StockyardError,
    TemplateSpec,
    TemplateTerm,
    UpdateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import Host
from stockyard.providers.open import open_provider
from stockyard.resources.hosts.host_lifecycle import start as start_host
from stockyard.resources.leases import lease_lifecycle
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import HOSTILE

MOVED = TemplateSpec("base", image=ImageSpec(packages=("busybox",)))


def fleet(count: int = 3, **options: Any) -> FleetSpec:
    return FleetSpec("ci", "base", count=count, **options)


def hosts(yard: Yard) -> dict[str, Host]:
    return {h.record.name: h for h in yard.context.provider.observe(yard.context.owner).hosts}


def verbs(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


@pytest.fixture
def moved(yard: Yard, clock: FakeClock) -> Yard:
    """A yard with three hosts whose template has moved on."""
    yard.fleets.apply(fleet())
    clock.sleep(1)
    yard.templates.apply(MOVED)
    return yard


class Counting:
    """A hypervisor that notes how many hosts there are and serve, after every change."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.seen: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        if name not in ("create_host", "fork", "claim", "destroy", "start", "stop"):
            return member

        def call(*arguments: Any, **options: Any) -> Any:
            result = member(*arguments, **options)
            members = self.inner.observe("stockyard").hosts
            self.seen.append((len(members), sum(h.serving for h in members)))
            return result

        return call


@pytest.mark.parametrize(
    ("update", "most", "least"),
    [
        (UpdateSpec(), 4, 3),
        (UpdateSpec(max_surge=2), 5, 3),
        (UpdateSpec(max_surge=0, max_unavailable=1), 3, 2),
        (UpdateSpec(max_surge=1, max_unavailable=2), 4, 1),
        (UpdateSpec("on_release"), 4, 3),
        (UpdateSpec("recreate"), 3, 0),
    ],
)
def test_number_of_hosts_stays_within_surge_and_unavailable(
    moved: Yard,
    uri: str,
    clock: FakeClock,
    tmp_path: Path,
    update: UpdateSpec,
    most: int,
    least: int,
) -> None:
    watched = Counting(open_provider(uri))
    with Yard(
        provider=cast("Provider", watched), clock=clock, pki_dir=str(tmp_path / "pki")
    ) as yard:
        yard.fleets.apply(fleet(update=update))
        assert max(host_count for host_count, _up in watched.seen) <= most
        assert min(up for _host_count, up in watched.seen) >= least
        assert not yard.fleets.apply(fleet(update=update)).changed
    assert all(h.serving for h in hosts(moved).values())
    assert len({h.record.generation for h in hosts(moved).values()}) == 1


def test_a_broken_template_stops_the_rollout_and_the_old_hosts_serve(
    moved: Yard, hypervisor: FaultyProvider
) -> None:
    before = hosts(moved)

    def broken(_answer: object) -> dict[str, Any]:
        raise GuestError("dockerd does not start.")

    hypervisor.calls.clear()
    hypervisor.tamper("settle", broken)
    with pytest.raises(GuestError, match=r"dockerd does not start.*5 actions were skipped"):
        moved.fleets.apply(fleet())
    assert hypervisor.calls["create_host"] == 1
    assert hosts(moved) == before
    with pytest.raises(StockyardError, match=r"2 of 2 hosts failed.*actions were skipped"):
        moved.fleets.apply(fleet(update=UpdateSpec(max_surge=2)))
    assert hypervisor.calls["create_host"] == 3
    assert hosts(moved) == before
    hypervisor.tamper("settle", lambda answer: answer)
    assert moved.fleets.apply(fleet()).changed
    assert not moved.fleets.apply(fleet()).changed


def test_hosts_with_names_are_replaced_one_after_the_other(
    moved: Yard, hypervisor: FaultyProvider
) -> None:
    named = FleetSpec("ci", "base", names=("ci-1", "ci-2", "ci-3"))
    hypervisor.fail("fork", HypervisorError("the disk is on fire."))
    with pytest.raises(HypervisorError, match="on fire"):
        moved.fleets.apply(named)
    assert sorted(hosts(moved)) == ["ci-2", "ci-3"]
    assert verbs(moved.fleets.apply(named)) == ["create ci-1", "replace ci-2", "replace ci-3"]
    assert sorted(hosts(moved)) == ["ci-1", "ci-2", "ci-3"]
    assert not moved.fleets.apply(named).changed


def test_names_take_the_place_of_numbers(yard: Yard) -> None:
    yard.fleets.apply(fleet(2))
    named = FleetSpec("ci", "base", names=("linux", "other"))
    assert verbs(yard.fleets.apply(named)) == [
        "delete ci-1",
        "create linux",
        "delete ci-2",
        "create other",
    ]
    assert not yard.fleets.apply(named).changed
    assert verbs(yard.fleets.apply(fleet(1))) == ["delete other"]


def test_always_policy_replaces_all_hosts(yard: Yard) -> None:
    always = fleet(2, recreate="always")
    before = {h.uuid for h in yard.fleets.apply(always).objects}
    second_result = yard.fleets.apply(always)
    assert second_result.changed
    assert len(second_result.objects) == 2
    assert not before & {h.uuid for h in second_result.objects}


@pytest.mark.parametrize(
    "kind",
    [
        HypervisorError,
        ConnectionFailed,
        OutOfSpace,
        DeadlineExceeded,
        GuestError,
        OperationRefused,
        MissingDependency,
    ],
)
def test_host_whose_start_fails_is_kept_and_the_run_fails(
    yard: Yard, hypervisor: FaultyProvider, kind: type[StockyardError]
) -> None:
    before = yard.fleets.apply(fleet(2)).objects
    yard.context.provider.stop(hosts(yard)["ci-2"].record, Deadline(5))
    hypervisor.fail("start", kind("the lock is held.", remedy="end its holder"))
    with pytest.raises(
        kind, match=r"ci-2: the lock is held.*end its holder; the host and its disk are retained"
    ):
        yard.fleets.apply(fleet(2))
    assert hypervisor.calls["destroy"] == 0
    assert [h.uuid for h in yard.hosts.list()] == [h.uuid for h in before]
    assert verbs(yard.fleets.apply(fleet(2))) == ["start ci-2"]
    assert yard.hosts.list() == before


def test_unstartable_host_is_reported_in_check_mode(yard: Yard, hypervisor: FaultyProvider) -> None:
    alone = SingleSpec("alone", "base")
    yard.fleets.apply(fleet(2))
    yard.hosts.apply(alone)
    for name in ("ci-2", "alone"):
        yard.context.provider.stop(hosts(yard)[name].record, Deadline(5))
    hypervisor.fail("check_start", Conflict("port 2376 is in use."))
    with pytest.raises(Conflict, match="port 2376 is in use"):
        yard.fleets.apply(fleet(2), check=True)
    hypervisor.fail("check_start", Conflict("port 2376 is in use."))
    with pytest.raises(Conflict, match="port 2376 is in use"):
        yard.hosts.apply(alone, check=True)


def test_host_whose_guest_is_lost_is_replaced(yard: Yard, hypervisor: FaultyProvider) -> None:
    before = yard.fleets.apply(fleet(2)).objects
    yard.context.provider.stop(hosts(yard)["ci-2"].record, Deadline(5))
    hypervisor.fail("start", GuestBroken("its disk is missing."))
    assert verbs(yard.fleets.apply(fleet(2))) == ["start ci-2"]
    assert yard.hosts.list()[0] == before[0]
    assert yard.hosts.list()[1].uuid != before[1].uuid
    assert not yard.fleets.apply(fleet(2)).changed


def test_leased_host_whose_guest_is_lost_is_kept(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.fleets.apply(fleet(1))
    record = lease_lifecycle.acquire(
        yard.context, LeaseSpec(holder="job", fleet="ci", duration=600), 0
    )
    yard.context.provider.stop(record, Deadline(5))
    hypervisor.fail("start", GuestBroken("its disk is missing."))
    with pytest.raises(GuestBroken):
        yard.fleets.apply(fleet(1))
    assert yard.hosts.list()[0].uuid == record.uuid


def test_warning_of_a_start_is_reported_as_progress(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.fleets.apply(fleet(1))
    record = hosts(yard)["ci-1"].record
    yard.context.provider.stop(record, Deadline(5))
    start = hypervisor.inner.start
    monkeypatch.setattr(
        hypervisor.inner,
        "start",
        lambda *arguments: start(*arguments) or "its saved memory was discarded",
    )
    lines: list[str] = []
    start_host(replace(yard.context, progress=lines.append), record, Deadline(5))
    assert "host ci-1: warning: its saved memory was discarded" in lines


# The hook


def hook(tmp_path: Path, code: int = 0) -> tuple[str, ...]:
    """A command that writes down what it is told."""
    path = str(tmp_path / "told")
    line = "json.dumps(dict(os.environ)) + chr(10)"
    text = f"import json, os, sys; open({path!r}, 'a').write({line})"
    return (sys.executable, "-c", f"{text}; print('no way'); sys.exit({code})")


def test_hook_gets_the_host_before_its_deletion(moved: Yard, tmp_path: Path) -> None:
    before = hosts(moved)
    moved.fleets.apply(fleet(update=UpdateSpec(hook=hook(tmp_path))))
    events = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [t["STOCKYARD_HOST"] for t in events] == ["ci-1", "ci-2", "ci-3"]
    first, record = events[0], before["ci-1"].record
    assert first["STOCKYARD_FLEET"] == "ci"
    assert first["STOCKYARD_ADDRESS"] == record.address
    assert first["DOCKER_HOST"] == f"tcp://{record.address}:2376"
    assert Path(first["DOCKER_CERT_PATH"], "key.pem").exists()


def test_a_hook_that_fails_keeps_the_host_and_stops_the_rollout(
    moved: Yard, tmp_path: Path
) -> None:
    before = hosts(moved)
    with pytest.raises(OperationRefused, match=r"host ci-1: the hook ended with code 3.*no way"):
        moved.fleets.apply(fleet(update=UpdateSpec(hook=hook(tmp_path, 3))))
    after = hosts(moved)
    assert after["ci-1"].serving
    assert {n: h.record.uuid for n, h in before.items()}.items() <= {
        n: h.record.uuid for n, h in after.items()
    }.items()
    with pytest.raises(OperationRefused, match="cannot be run"):
        moved.fleets.apply(fleet(update=UpdateSpec(hook=("/not/there",))))
    # The additional host is reused.
    assert verbs(moved.fleets.apply(fleet())) == [
        "delete ci-1",
        "create ci-1",
        "delete ci-2",
        "create ci-2",
        "delete ci-3",
    ]


def test_hook_runs_without_a_shell(yard: Yard, tmp_path: Path) -> None:
    yard.fleets.apply(fleet(1))
    with pytest.raises(OperationRefused, match="cannot be run"):
        yard.fleets.apply(fleet(0, update=UpdateSpec(hook=(f"touch {tmp_path}/owned; true",))))
    assert not (tmp_path / "owned").exists()


# A host that was cordoned


def test_host_in_deletion_is_deleted(yard: Yard) -> None:
    yard.fleets.apply(fleet(2))
    yard.context.provider.claim(hosts(yard)["ci-2"].record, phase="draining")
    assert [h.ready for h in yard.hosts.list()] == [True, False]
    result = yard.fleets.apply(fleet(2))
    assert [(f"{a.verb} {a.name}", a.reason) for a in result.plan.actions] == [
        ("delete ci-2", "its deletion was interrupted"),
        ("create ci-2", "the fleet has 1 of 2 hosts"),
    ]
    assert not yard.fleets.apply(fleet(2)).changed


# Death


class Dead(BaseException):
    """The end of a controller: nothing that it does afterwards has any effect."""


class Mortal:
    """A hypervisor whose controller dies at its n-th call."""

    def __init__(self, inner: Provider, call: int) -> None:
        self.inner, self.left = inner, call
        self._mutex = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.inner, name)
        # The kernel releases the locks of a dead controller.
        if not callable(member) or name == "exclusive":
            return member

        def act(*arguments: Any, **options: Any) -> Any:
            with self._mutex:
                self.left -= 1
                if self.left <= 0:
                    raise Dead
            return member(*arguments, **options)

        return act


def make(yard: Yard) -> None:
    yard.fleets.apply(fleet(2))


def roll(yard: Yard) -> None:
    yard.templates.apply(MOVED)
    yard.fleets.apply(fleet(2))


def recreate(yard: Yard) -> None:
    yard.templates.apply(MOVED)
    yard.fleets.apply(fleet(2, update=UpdateSpec("recreate")))


def swap(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", names=("ci-1", "b"), host=HostSpec(ports=(80,))))


def shrink(yard: Yard) -> None:
    yard.fleets.apply(fleet(1))


def end(yard: Yard) -> None:
    yard.fleets.delete("ci")


def site(yard: Yard) -> None:
    """Another fleet of a newer template, and nothing else."""
    template, other_fleet = replace(MOVED, keep_generations=1), FleetSpec("web", "base", count=2)
    yard.apply(Declaration((TemplateTerm(template),), (FleetTerm(other_fleet),), prune="force"))


@pytest.mark.parametrize("work", [make, roll, recreate, swap, shrink, end, site])
def test_whenever_the_controller_dies_one_rerun_converges(
    tmp_path: Path, work: Callable[[Yard], None]
) -> None:
    remaining_calls: dict[Callable[[Yard], None], int] = {shrink: 1, end: 0}
    clock, keys = FakeClock(), str(tmp_path / "pki")
    with Yard(f"memory://{tmp_path}/0", pki_dir=keys, clock=clock) as yard:
        yard.templates.apply(TemplateSpec("base"))
        if work is not make:
            yard.fleets.apply(fleet(2))
    clock.sleep(1)
    for call in range(1, 1000):
        state = tmp_path / str(call)
        shutil.copy(tmp_path / "0", state)
        shutil.copytree(tmp_path / "0.d", tmp_path / f"{call}.d", symlinks=True)
        mortal = Mortal(open_provider(f"memory://{state}"), call)
        died = dies(work, Yard(provider=cast("Provider", mortal), pki_dir=keys, clock=clock))
        with Yard(f"memory://{state}", pki_dir=keys, clock=clock) as yard:
            work(yard)
            current_hosts = hosts(yard)
            assert len(current_hosts) == remaining_calls.get(work, 2), call
            assert all(h.serving for h in current_hosts.values())
            assert all(t.usable for t in yard.templates.list())
            disks = [p for p in (tmp_path / f"{call}.d" / "disks").iterdir() if p.suffix != ".json"]
            assert len(disks) == len(current_hosts) + len(yard.templates.list())
            if work in (make, roll):
                assert not yard.fleets.apply(fleet(2)).changed
            if work is site:
                assert (sorted(current_hosts), len(yard.templates.list())) == (
                    ["web-1", "web-2"],
                    1,
                )
        if not died:
            break
    assert call > 5


def dies(work: Callable[[Yard], None], yard: Yard) -> bool:
    """Whether the controller did not live to see its work done."""
    try:
        work(yard)
    except (Dead, StockyardError):
        return True
    return False


# Bad input


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "yolo"},
        {"max_surge": -1},
        {"max_surge": True},
        {"max_unavailable": 10001},
        {"max_surge": 0, "max_unavailable": 0},
        {"grace": -1.0},
        {"grace": float("nan")},
        {"grace": float("inf")},
        {"hook": ("",)},
        {"hook": ("true", "a\0b")},
        {"hook": (1,)},
    ],
)
def test_a_bad_update_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        UpdateSpec(**options)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        FleetSpec("ci", "base", names=(name,))


@pytest.mark.parametrize(
    "options",
    [
        {"names": ("a", "a")},
        {"names": ("a", "b"), "count": 3},
        {"names": ("a",), "update": UpdateSpec(max_unavailable=0)},
        {"recreate": "sometimes"},
        {"replace_on_labels": ("a b",)},
        {"host": HostSpec(ports=(80,), bind="127.0.0.1"), "update": UpdateSpec(max_unavailable=0)},
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        FleetSpec("ci", "base", **options)
