# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are suspended and resumed, over the memory hypervisor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    DeadlineExceeded,
    Declaration,
    FleetSpec,
    FleetTerm,
    GuestError,
    HostSpec,
    HypervisorError,
    ImageSpec,
    LeaseSpec,
    NotFound,
    OperationRefused,
    OutOfSpace,
    SingleSpec,
    StockyardError,
    SuspendedFleetTerm,
    TemplateSpec,
    TemplateTerm,
    UpdateSpec,
    VolumeSpec,
    Yard,
)
from stockyard.planning.plan import Plan
from stockyard.providers.memory.guest import AHEAD
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

FLEET = FleetSpec("ci", "base", count=2)
SINGLE = SingleSpec("web", "base")
LEASE = LeaseSpec(holder="job", fleet="ci", duration=600)


def lines(result: Any) -> list[str]:
    return [str(action) for action in result.plan.actions]


def states(yard: Yard) -> dict[str, str]:
    return {host.name: host.state for host in yard.hosts.list()}


def identities(yard: Yard) -> dict[str, Any]:
    return {host.name: (host.uuid, host.address, host.identity) for host in yard.hosts.list()}


def test_single_host_is_suspended_and_resumed_once_each(yard: Yard) -> None:
    yard.hosts.apply(SINGLE)
    before = identities(yard)
    for check in (True, False):
        result = yard.hosts.suspend("web", check=check)
        assert lines(result) == ["suspend host web: it is declared suspended"]
        assert result.plan.diff() == {
            "before": {"host web": {"state": "running"}},
            "after": {"host web": {"state": "suspended"}},
        }
    (host,) = yard.hosts.list()
    assert (host.state, host.ready) == ("suspended", False)
    assert not yard.hosts.suspend("web").changed
    for check in (True, False):
        assert lines(yard.hosts.apply(SINGLE, check=check)) == ["resume host web: it is suspended"]
    (host,) = yard.hosts.list()
    assert (host.state, host.ready) == ("running", True)
    assert not yard.hosts.apply(SINGLE).changed
    assert identities(yard) == before


def test_member_of_a_fleet_is_suspended_and_resumed_by_its_name(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    assert states(yard) == {"ci-1": "suspended", "ci-2": "running"}
    assert lines(yard.hosts.resume("ci-1")) == ["resume host ci-1: it is suspended"]
    assert not yard.hosts.resume("ci-1").changed
    assert not yard.fleets.apply(FLEET).changed


def test_host_that_does_not_exist_is_neither_suspended_nor_resumed(yard: Yard) -> None:
    with pytest.raises(NotFound):
        yard.hosts.suspend("none")
    with pytest.raises(NotFound):
        yard.hosts.resume("none")


def test_host_that_is_off_stays_off_and_is_started_by_a_resume(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(SINGLE)
    (host,) = yard.context.provider.observe(yard.context.owner).hosts
    hypervisor.inner._set(host.record, state="off")  # type: ignore[attr-defined]
    assert not yard.hosts.suspend("web").changed
    assert lines(yard.hosts.resume("web")) == ["start host web: it is off"]


def test_fleet_is_suspended_whole_and_resumed_by_its_declaration(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    before = identities(yard)
    for check in (True, False):
        assert lines(yard.fleets.suspend("ci", check=check)) == [
            "suspend host ci-1: it is declared suspended",
            "suspend host ci-2: it is declared suspended",
        ]
    assert not yard.fleets.suspend("ci").changed
    assert yard.fleets.list()[0].ready == 0
    assert lines(yard.fleets.apply(FLEET)) == [
        "resume host ci-1: it is suspended",
        "resume host ci-2: it is suspended",
    ]
    assert not yard.fleets.apply(FLEET).changed
    assert identities(yard) == before


def test_fleet_is_resumed_without_its_declaration(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.fleets.suspend("ci")
    assert len(yard.fleets.resume("ci", check=True).plan.actions) == 2
    assert len(yard.fleets.resume("ci").plan.actions) == 2
    assert set(states(yard).values()) == {"running"}
    assert not yard.fleets.resume("ci").changed


def test_suspended_host_is_preferred_to_go_if_the_fleet_shrinks(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    assert lines(yard.fleets.apply(replace(FLEET, count=1))) == [
        "delete host ci-1: the fleet must have 1"
    ]


def test_outdated_suspended_host_is_rolled_out_like_a_running_one(
    yard: Yard, clock: FakeClock
) -> None:
    yard.fleets.apply(FLEET)
    yard.fleets.suspend("ci")
    clock.sleep(1)
    yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("busybox",))))
    verbs = [action.verb for action in yard.fleets.apply(FLEET).plan.actions]
    assert verbs == ["resume", "resume", "create", "delete", "create", "delete"]
    assert not yard.fleets.apply(FLEET).changed
    assert set(states(yard).values()) == {"running"}


def test_suspended_host_that_is_surplus_is_resumed_before_its_work_is_drained(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    starts = hypervisor.calls["start"]
    single = replace(FLEET, count=1, update=UpdateSpec(hook=("true",)))
    assert lines(yard.fleets.apply(single)) == ["delete host ci-1: the fleet must have 1"]
    assert hypervisor.calls["start"] == starts + 1


def test_outdated_suspended_host_is_resumed_before_its_work_is_drained(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    clock.sleep(1)
    yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("busybox",))))
    starts = hypervisor.calls["start"]
    yard.fleets.apply(replace(FLEET, update=UpdateSpec(hook=("true",))))
    assert hypervisor.calls["start"] == starts + 1


# The declaration of a yard


def declared(suspended: bool) -> Declaration:
    template = (TemplateTerm(TemplateSpec("base")),)
    if suspended:
        return Declaration(template, suspended_fleets=(SuspendedFleetTerm("ci"),), prune="yes")
    return Declaration(template, (FleetTerm(FLEET),), prune="yes")


def test_declared_state_suspends_and_resumes_a_fleet(yard: Yard) -> None:
    yard.apply(declared(suspended=False))
    before = identities(yard)
    for check in (True, False):
        result = yard.apply(declared(suspended=True), check=check)
        assert [action.verb for action in result.plan.actions] == ["suspend", "suspend"]
        state = "running" if check else "suspended"
        assert [host.state for host in result.objects] == [state, state]
    assert not yard.apply(declared(suspended=True)).changed
    result = yard.apply(declared(suspended=False))
    assert [action.verb for action in result.plan.actions] == ["resume", "resume"]
    assert identities(yard) == before


def test_whole_yard_is_suspended_and_resumed(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.apply(SINGLE)
    yard.leases.ensure(LEASE)
    for check in (True, False):
        assert len(yard.suspend(check=check).plan.actions) == 3
    assert set(states(yard).values()) == {"suspended"}
    assert not yard.suspend().changed
    for check in (True, False):
        assert len(yard.resume(check=check).plan.actions) == 3
    assert set(states(yard).values()) == {"running"}
    assert not yard.resume().changed


def test_failed_suspend_does_not_stop_other_hosts(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.apply(SINGLE)
    hypervisor.fail("suspend", HypervisorError("the disk is on fire."))
    with pytest.raises(StockyardError, match="the disk is on fire"):
        yard.suspend()
    assert sorted(states(yard).values()) == ["running", "suspended", "suspended"]


def test_hosts_without_space_for_their_memory_are_unchanged(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    for call in range(1, 5):
        hypervisor.fail("check_suspend", OutOfSpace("full"), call=call)
    for check in (True, False):
        with pytest.raises(OutOfSpace):
            yard.fleets.suspend("ci", check=check)
        with pytest.raises(OutOfSpace):
            yard.suspend(check=check)
    assert set(states(yard).values()) == {"running"}


# Leases


def test_leased_host_is_suspended_by_its_holder_or_by_force(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    lease = yard.leases.ensure(LEASE).object
    for check in (True, False):
        with pytest.raises(OperationRefused, match="leased by job"):
            yard.hosts.suspend(lease.host, check=check)
    assert yard.leases.suspend(lease.id, check=True).changed
    assert yard.leases.suspend(lease.id).changed
    assert states(yard)[lease.host] == "suspended"
    assert yard.leases.get(lease.id).until == lease.until
    assert yard.leases.resume(lease.id).changed
    assert yard.hosts.suspend(lease.host, force=True).changed


def test_fleet_suspends_no_leased_host_without_force(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    lease = yard.leases.ensure(LEASE).object
    yard.fleets.suspend("ci")
    assert states(yard)[lease.host] == "running"
    yard.fleets.suspend("ci", force=True)
    assert set(states(yard).values()) == {"suspended"}


def test_lease_of_a_suspended_host_is_renewed_and_expires(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(FLEET)
    lease = yard.leases.ensure(LEASE).object
    yard.leases.suspend(lease.id)
    assert yard.leases.renew(lease.id, 3600).object.until > lease.until
    clock.sleep(4000)
    yard.reap()
    assert lease.host not in states(yard)


def test_suspended_host_is_not_leased(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    assert yard.leases.ensure(LEASE).object.host == "ci-2"
    with pytest.raises(StockyardError, match="none of the 2 matching hosts is free") as refusal:
        yard.leases.ensure(replace(LEASE, holder="other"))
    assert "it is suspended" in refusal.value.cause


# The guest


def test_resumed_guest_has_the_right_time_and_new_entropy(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockyard.providers.memory.guest import NoEffects

    seeds: list[bytes] = []
    monkeypatch.setattr(NoEffects, "reseed", lambda _self, entropy: seeds.append(entropy))
    (host,) = yard.hosts.apply(SINGLE).objects
    seeds.clear()
    yard.hosts.suspend("web")
    # Below the limit for running hosts: a resume corrects any difference.
    (disk_of(host) / "run").mkdir(exist_ok=True)
    (disk_of(host) / AHEAD).write_text("-2.0")
    yard.hosts.resume("web")
    assert not (disk_of(host) / AHEAD).exists()
    assert [len(seed) for seed in seeds] == [64]


def test_memory_of_a_guest_survives_a_suspension_and_no_restart(yard: Yard) -> None:
    (host,) = yard.hosts.apply(SINGLE).objects
    note = disk_of(host) / "run" / "note"
    note.parent.mkdir(exist_ok=True)
    note.write_text("in memory")
    yard.hosts.suspend("web")
    yard.hosts.resume("web")
    assert note.read_text() == "in memory"
    yard.hosts.restart("web")
    assert not note.exists()


def test_certificate_that_is_due_is_renewed_by_the_resume(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(SINGLE)
    before = yard.hosts.list()[0]
    yard.hosts.suspend("web")
    clock.sleep(380 * 86400)
    assert next(action.verb for action in yard.hosts.apply(SINGLE).plan.actions) == "resume"
    (host,) = yard.hosts.list()
    assert (host.ready, host.drift) == (True, ())
    assert host.identity
    assert before.identity
    assert host.identity.certificate != before.identity.certificate
    assert host.identity.ssh_host_key == before.identity.ssh_host_key


def test_volume_of_a_suspended_host_is_not_detached(yard: Yard) -> None:
    yard.hosts.apply(SINGLE)
    yard.volumes.attach(VolumeSpec("data"), host="web", path="/data")
    yard.hosts.suspend("web")
    with pytest.raises(StockyardError, match="the host is suspended"):
        yard.volumes.detach("data")
    yard.hosts.resume("web")
    yard.volumes.detach("data")


# Failures


@pytest.mark.parametrize("call", ["start", "channel", "set_link"])
def test_interrupted_resume_is_completed_by_the_next_run(
    call: str, yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    before = identities(yard)
    yard.hosts.suspend("ci-1")
    hypervisor.fail(call, GuestError("killed"))
    with pytest.raises(GuestError):
        yard.hosts.resume("ci-1")
    host = yard.hosts.get("ci-1")
    assert not host.ready
    assert [action.verb for action in yard.fleets.apply(FLEET).plan.actions] == ["resume"]
    assert not yard.fleets.apply(FLEET).changed
    assert yard.hosts.get("ci-1").ready
    assert identities(yard) == before


def test_interrupted_resume_is_suspended_again_if_that_is_declared(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    yard.fleets.suspend("ci")
    hypervisor.fail("set_link", GuestError("killed"))
    with pytest.raises(GuestError):
        yard.hosts.resume("ci-1")
    assert yard.hosts.get("ci-1").waits == (
        "its resume was interrupted; the next convergence completes it"
    )
    assert lines(yard.fleets.suspend("ci")) == ["suspend host ci-1: it is declared suspended"]
    assert set(states(yard).values()) == {"suspended"}
    assert not yard.fleets.suspend("ci").changed


def test_late_save_leaves_the_host_running(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.hosts.apply(SINGLE)
    hypervisor.fail("suspend", DeadlineExceeded("late"))
    with pytest.raises(DeadlineExceeded):
        yard.hosts.suspend("web")
    assert not yard.hosts.apply(SINGLE).changed


def test_incomplete_host_is_not_suspended(yard: Yard) -> None:
    yard.hosts.apply(SINGLE)
    (host,) = yard.context.provider.observe(yard.context.owner).hosts
    yard.context.provider.claim(host.record, phase="deleting")
    with pytest.raises(OperationRefused, match="only a complete host"):
        yard.hosts.suspend("web")


def test_suspended_host_is_deleted_and_replaced_like_another(yard: Yard) -> None:
    yard.hosts.apply(SINGLE)
    before = identities(yard)
    yard.hosts.suspend("web")
    yard.hosts.replace("web")
    assert identities(yard) != before
    yard.hosts.suspend("web")
    yard.hosts.delete("web")
    assert not states(yard)


def test_suspended_host_with_a_changed_declaration_is_replaced(yard: Yard) -> None:
    yard.hosts.apply(SINGLE)
    yard.hosts.suspend("web")
    changed = replace(SINGLE, host=HostSpec(ports=(8080,)))
    assert [action.verb for action in yard.hosts.apply(changed).plan.actions] == ["replace"]
    assert yard.hosts.list()[0].ready
    assert yard.fleets.suspend("none").plan == Plan()
