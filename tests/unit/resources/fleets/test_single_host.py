# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host by name, in all its states."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest

from stockyard import (
    Busy,
    Conflict,
    FleetSpec,
    GuestError,
    HostSpec,
    NotFound,
    OperationRefused,
    SingleSpec,
    TemplateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.host import Host
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import has_link

WEB = SingleSpec("web", "base")


def verbs(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def observed(yard: Yard, name: str = "web") -> Host:
    return next(
        h for h in yard.context.provider.observe("stockyard").hosts if h.record.name == name
    )


def test_host_is_created_and_then_unchanged(yard: Yard) -> None:
    result = yard.hosts.apply(WEB)
    assert verbs(result) == ["create web"]
    assert result.objects[0].ready
    assert result.objects[0].fleet == ""
    second_result = yard.hosts.apply(WEB)
    assert not second_result.changed
    assert second_result.objects == result.objects


@pytest.mark.parametrize("verb", ["apply", "restart", "replace"])
def test_check_mode_does_nothing(yard: Yard, hypervisor: FaultyProvider, verb: str) -> None:
    yard.hosts.apply(WEB)
    hypervisor.calls.clear()
    getattr(yard.hosts, verb)(SingleSpec("web", "base", labels={"a": "b"}), check=True)
    assert set(hypervisor.calls) <= {"observe", "facts", "check_host", "channel", "capacity"}


def test_check_mode_deletes_nothing(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.hosts.apply(WEB)
    hypervisor.calls.clear()
    assert yard.hosts.delete("web", check=True).changed
    assert set(hypervisor.calls) <= {"observe", "facts", "check_host", "channel"}


def test_host_is_deleted(yard: Yard) -> None:
    yard.hosts.apply(WEB)
    result = yard.hosts.delete("web")
    assert verbs(result) == ["delete web"]
    assert result.objects == ()
    assert not yard.hosts.delete("web").changed


def test_a_restart_keeps_the_identity(yard: Yard) -> None:
    before = yard.hosts.apply(WEB).objects
    result = yard.hosts.restart("web")
    assert verbs(result) == ["restart web"]
    assert result.objects == before


def test_a_replaced_host_is_another_one_of_the_same_name(yard: Yard) -> None:
    (before,) = yard.hosts.apply(
        SingleSpec("web", "base", host=HostSpec(ports=(80,)), labels={"a": "b"})
    ).objects
    (after,) = yard.hosts.replace("web").objects
    assert after.uuid != before.uuid
    assert after.identity != before.identity
    assert (after.ports, after.labels) == ((80,), {"a": "b"})


def test_a_changed_declaration_replaces_the_host_once(yard: Yard) -> None:
    yard.hosts.apply(SingleSpec("web", "base", host=HostSpec(ports=(80,))))
    for spec in (SingleSpec("web", "base", host=HostSpec(ports=(81,))), SingleSpec("web")):
        result = yard.hosts.apply(spec)
        assert verbs(result) == ["replace web"]
        assert result.objects[0].ports == spec.host.ports
        assert not yard.hosts.apply(spec).changed


def test_labels_are_changed_in_place(yard: Yard) -> None:
    (before,) = yard.hosts.apply(WEB).objects
    result = yard.hosts.apply(SingleSpec("web", "base", labels={"a": "b"}))
    assert verbs(result) == ["relabel web"]
    assert result.objects[0].uuid == before.uuid


def test_a_host_that_is_off_is_started(yard: Yard) -> None:
    before = yard.hosts.apply(WEB).objects
    yard.context.provider.stop(observed(yard).record, Deadline(5))
    result = yard.hosts.apply(WEB)
    assert verbs(result) == ["start web"]
    assert result.objects == before


@pytest.mark.parametrize("verb", ["apply", "restart", "replace"])
def test_missing_host_is_created_from_a_named_template(yard: Yard, verb: str) -> None:
    assert verbs(getattr(yard.hosts, verb)(WEB)) == ["create web"]


@pytest.mark.parametrize("verb", ["apply", "restart", "replace"])
def test_missing_host_without_a_template_is_refused(yard: Yard, verb: str) -> None:
    for check in (True, False):
        with pytest.raises(NotFound, match="declare a template to create the host"):
            getattr(yard.hosts, verb)(SingleSpec("web"), check=check)


def test_a_host_is_returned_by_its_name(yard: Yard) -> None:
    with pytest.raises(NotFound, match="host web: the host does not exist"):
        yard.hosts.get("web")
    result = yard.hosts.apply(WEB)
    assert yard.hosts.get("web") == result.object


def test_a_member_of_a_fleet_is_ruled_by_its_fleet(yard: Yard) -> None:
    spec = FleetSpec("ci", "base", count=2, host=HostSpec(ports=(80,)), labels={"a": "b"})
    before = yard.fleets.apply(spec).objects
    with pytest.raises(OperationRefused, match="fleet ci"):
        yard.hosts.apply(SingleSpec("ci-1", "base"))
    for verb in ("restart", "replace"):
        assert verbs(getattr(yard.hosts, verb)("ci-1")) == [f"{verb} ci-1"]
        assert observed(yard, "ci-1").record.fleet == "ci"
        assert not yard.fleets.apply(spec).changed
    after = yard.hosts.list(name="ci-1")[0]
    assert after.uuid != before[0].uuid
    yard.hosts.delete("ci-1")
    assert verbs(yard.fleets.apply(spec)) == ["create ci-1"]


def test_a_host_and_its_fleet_are_held_together(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    provider = yard.context.provider
    with provider.exclusive("stockyard.default.fleet.ci", Deadline(1)), pytest.raises(Busy):
        yard.hosts.restart("ci-1")
    with provider.exclusive("stockyard.default.host.web", Deadline(1)), pytest.raises(Busy):
        yard.hosts.apply(WEB)


def test_host_that_joined_a_fleet_in_between_is_not_changed(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    exclusive = hypervisor.inner.exclusive

    def create_fleet_first(name: str, deadline: Deadline) -> AbstractContextManager[None]:
        monkeypatch.undo()
        yard.fleets.apply(FleetSpec("ci", "base"))
        return exclusive(name, deadline)

    monkeypatch.setattr(hypervisor.inner, "exclusive", create_fleet_first)
    with pytest.raises(Conflict, match="another fleet"):
        yard.hosts.replace(SingleSpec("ci-1", "base"))


def test_incomplete_host_is_created_again(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("fork", GuestError("no."))
    hypervisor.fail("destroy", GuestError("no."))
    with pytest.raises(Exception, match="its remains could not be deleted"):
        yard.hosts.apply(WEB)
    result = yard.hosts.apply(WEB)
    assert [a.reason for a in result.plan.actions] == ["it is incomplete"]
    assert result.objects[0].ready


def test_host_with_a_foreign_identity_gets_no_link(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.hosts.apply(WEB)
    yard.context.provider.stop(observed(yard).record, Deadline(5))
    hypervisor.tamper("hello", lambda answer: {**answer, "uuid": "somebody-else"})
    hypervisor.calls.clear()
    with pytest.raises(GuestError, match="the host's disk has a different identity, or none"):
        yard.hosts.apply(WEB)
    assert hypervisor.calls["set_link"] == 0
    assert not has_link(yard.context.provider, observed(yard).record)


def test_hosts_of_one_name_in_two_tenants_are_two(yard: Yard, clock: FakeClock) -> None:
    yard.templates.apply(TemplateSpec("base", tenant="other"))
    yard.hosts.apply(WEB)
    yard.hosts.apply(SingleSpec("web", "base", tenant="other"))
    assert [h.tenant for h in yard.hosts.list()] == ["default", "other"]
    yard.hosts.delete("web", "other")
    assert [h.tenant for h in yard.hosts.list()] == ["default"]
