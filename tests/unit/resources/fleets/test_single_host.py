# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host by name, in all its states."""

from __future__ import annotations

from typing import Any

import pytest

from stockyard import (
    Busy,
    FleetSpec,
    GuestError,
    HostSpec,
    InvalidInput,
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

WEB = SingleSpec("web", "base")


def verbs(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def observed(yard: Yard, name: str = "web") -> Host:
    return next(
        h for h in yard.context.provider.observe("stockyard").hosts if h.record.name == name
    )


def test_a_host_is_made_and_then_left_alone(yard: Yard) -> None:
    result = yard.host(WEB)
    assert verbs(result) == ["create web"]
    assert result.objects[0]["ready"]
    assert result.objects[0]["fleet"] == ""
    again = yard.host(WEB)
    assert not again.changed
    assert again.objects == result.objects


@pytest.mark.parametrize("state", ["present", "absent", "restarted", "replaced"])
def test_check_mode_does_nothing(yard: Yard, hypervisor: FaultyProvider, state: str) -> None:
    yard.host(WEB)
    hypervisor.calls.clear()
    yard.host(SingleSpec("web", "base", labels={"a": "b"}), state, check=True)
    assert set(hypervisor.calls) <= {"observe", "facts", "check_host", "channel"}


def test_a_host_is_taken_away(yard: Yard) -> None:
    yard.host(WEB)
    result = yard.host(SingleSpec("web"), "absent")
    assert verbs(result) == ["destroy web"]
    assert result.objects == []
    assert not yard.host(SingleSpec("web"), "absent").changed


def test_a_restart_keeps_the_identity(yard: Yard) -> None:
    before = yard.host(WEB).objects
    result = yard.host(SingleSpec("web"), "restarted")
    assert verbs(result) == ["restart web"]
    assert result.objects == before


def test_a_replaced_host_is_another_one_of_the_same_name(yard: Yard) -> None:
    (before,) = yard.host(
        SingleSpec("web", "base", host=HostSpec(ports=(80,)), labels={"a": "b"})
    ).objects
    (after,) = yard.host(SingleSpec("web"), "replaced").objects
    assert after["uuid"] != before["uuid"]
    assert after["identity"] != before["identity"]
    assert (after["ports"], after["labels"]) == ([80], {"a": "b"})


def test_a_changed_declaration_replaces_the_host_once(yard: Yard) -> None:
    yard.host(SingleSpec("web", "base", host=HostSpec(ports=(80,))))
    for spec in (SingleSpec("web", "base", host=HostSpec(ports=(81,))), SingleSpec("web")):
        result = yard.host(spec)
        assert verbs(result) == ["replace web"]
        assert result.objects[0]["ports"] == list(spec.host.ports)
        assert not yard.host(spec).changed


def test_labels_are_changed_in_place(yard: Yard) -> None:
    (before,) = yard.host(WEB).objects
    result = yard.host(SingleSpec("web", "base", labels={"a": "b"}))
    assert verbs(result) == ["relabel web"]
    assert result.objects[0]["uuid"] == before["uuid"]


def test_a_host_that_is_off_is_started(yard: Yard) -> None:
    before = yard.host(WEB).objects
    yard.context.provider.stop(observed(yard).record, Deadline(5))
    result = yard.host(WEB)
    assert verbs(result) == ["start web"]
    assert result.objects == before


@pytest.mark.parametrize("state", ["present", "restarted", "replaced"])
def test_what_is_not_there_is_made_where_a_template_is_named(yard: Yard, state: str) -> None:
    assert verbs(yard.host(WEB, state)) == ["create web"]


@pytest.mark.parametrize("state", ["present", "restarted", "replaced"])
def test_what_is_not_there_cannot_be_made_of_nothing(yard: Yard, state: str) -> None:
    for check in (True, False):
        with pytest.raises(NotFound, match="name a template"):
            yard.host(SingleSpec("web"), state, check=check)


def test_an_unknown_state_is_refused(yard: Yard) -> None:
    with pytest.raises(InvalidInput, match="state"):
        yard.host(WEB, "exploded")


def test_a_member_of_a_fleet_is_ruled_by_its_fleet(yard: Yard) -> None:
    spec = FleetSpec("ci", "base", count=2, host=HostSpec(ports=(80,)), labels={"a": "b"})
    before = yard.fleet(spec).objects
    with pytest.raises(OperationRefused, match="fleet ci"):
        yard.host(SingleSpec("ci-1", "base"))
    for state, verb in (("restarted", "restart"), ("replaced", "replace")):
        assert verbs(yard.host(SingleSpec("ci-1", "base"), state)) == [f"{verb} ci-1"]
        assert observed(yard, "ci-1").record.fleet == "ci"
        assert not yard.fleet(spec).changed
    after = yard.hosts(name="ci-1")[0]
    assert after["uuid"] != before[0]["uuid"]
    yard.host(SingleSpec("ci-1"), "absent")
    assert verbs(yard.fleet(spec)) == ["create ci-1"]


def test_a_host_and_its_fleet_are_held_together(yard: Yard) -> None:
    yard.fleet(FleetSpec("ci", "base"))
    provider = yard.context.provider
    with provider.exclusive("stockyard.default.fleet.ci", Deadline(1)), pytest.raises(Busy):
        yard.host(SingleSpec("ci-1"), "restarted")
    with provider.exclusive("stockyard.default.host.web", Deadline(1)), pytest.raises(Busy):
        yard.host(WEB)


def test_a_half_made_host_is_made_anew(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("fork", GuestError("no."))
    hypervisor.fail("destroy", GuestError("no."))
    with pytest.raises(Exception, match="could not be taken away"):
        yard.host(WEB)
    result = yard.host(WEB)
    assert [a.reason for a in result.plan.actions] == ["it was left half-made"]
    assert result.objects[0]["ready"]


def test_a_host_whose_disk_holds_another_identity_is_not_let_on_the_network(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.host(WEB)
    yard.context.provider.stop(observed(yard).record, Deadline(5))
    hypervisor.tamper("hello", lambda answer: {**answer, "uuid": "somebody-else"})
    hypervisor.calls.clear()
    with pytest.raises(GuestError, match="another identity"):
        yard.host(WEB)
    assert hypervisor.calls["set_link"] == 0
    assert yard.hosts()[0]["link"] == "down"


def test_hosts_of_one_name_in_two_tenants_are_two(yard: Yard, clock: FakeClock) -> None:
    yard.template(TemplateSpec("base", tenant="other"))
    yard.host(WEB)
    yard.host(SingleSpec("web", "base", tenant="other"))
    assert [h["tenant"] for h in yard.hosts()] == ["default", "other"]
    yard.host(SingleSpec("web", tenant="other"), "absent")
    assert [h["tenant"] for h in yard.hosts()] == ["default"]
