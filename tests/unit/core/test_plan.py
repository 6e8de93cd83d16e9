# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans, against a model of a hypervisor that does exactly what a plan says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.core.fleet import FleetSpec, SingleSpec
from stockyard.core.host import HOST_PHASES, RUN_STATES, Host, HostSpec
from stockyard.core.plan import (
    UNKNOWN_GENERATION,
    Plan,
    generations,
    newest,
    plan_destroy,
    plan_fleet,
    plan_host,
    plan_template,
)
from stockyard.core.provider import Template
from stockyard.core.template import Hardware, TemplateSpec
from tests.support import host, template_record

OLD, NEW = "a" * 64, "b" * 64
SPECS = st.sampled_from([HostSpec(), HostSpec(ports=(80,)), HostSpec(engine_identity="unique")])
LABELS = st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": ""}])
HOSTS = st.builds(
    lambda tenant, fleet, number, phase, state, generation, spec, labels: host(
        state, tenant=tenant, fleet=fleet, name=f"{fleet or 'ci'}-{number}", phase=phase, generation=generation,
        spec=spec, labels=labels,
    ),
    st.sampled_from(["default", "default", "other"]), st.sampled_from(["ci", "ci", "ci", "web", ""]), st.integers(1, 9),
    st.sampled_from([*HOST_PHASES, "ready", "ready"]), st.sampled_from([*RUN_STATES, "running"]),
    st.sampled_from([OLD, NEW]), SPECS, LABELS,
)  # fmt: skip
# On one hypervisor a name is there once in a tenant.
YARDS = st.lists(HOSTS, max_size=12, unique_by=lambda h: (h.record.tenant, h.record.name))
FLEETS = st.builds(
    lambda count, spec, labels: FleetSpec("ci", "base", count=count, host=spec, labels=labels),
    st.integers(0, 8), SPECS, LABELS,
)  # fmt: skip


def mine(found: Iterable[Host]) -> list[Host]:
    return [h for h in found if (h.record.tenant, h.record.fleet) == ("default", "ci")]


def applied(plan: Plan, spec: FleetSpec, generation: str, found: Iterable[Host]) -> list[Host]:
    """What is there when a plan was done, action by action. Fails on an action that cannot be done."""
    there = {(h.record.tenant, h.record.name): h for h in found}
    for action in plan.actions:
        key = (spec.tenant, action.name)
        made = host(fleet=spec.name, name=action.name, generation=generation, spec=spec.host, labels=spec.labels)
        if action.verb == "create":
            assert key not in there, f"{action} comes upon a host of that name"
            there[key] = made
            continue
        now = there.pop(key)
        if action.verb == "replace":
            there[key] = made
        elif action.verb == "start":
            there[key] = Host(now.record, "running")
        elif action.verb == "relabel":
            there[key] = replace(now, record=replace(now.record, labels=spec.labels))
        else:
            assert action.verb == "destroy"
    return list(there.values())


@given(FLEETS, YARDS)
def test_one_apply_converges(spec: FleetSpec, found: list[Host]) -> None:
    after = mine(applied(plan_fleet(spec, NEW, found), spec, NEW, found))
    assert len(after) == spec.count
    for one in after:
        assert one.serving
        assert (one.record.generation, one.record.spec, one.record.labels) == (NEW, spec.host, spec.labels)


@given(FLEETS, YARDS)
def test_an_applied_plan_leaves_an_empty_one(spec: FleetSpec, found: list[Host]) -> None:
    after = applied(plan_fleet(spec, NEW, found), spec, NEW, found)
    assert plan_fleet(spec, NEW, after) == Plan()


@given(FLEETS, YARDS)
def test_nothing_foreign_is_touched(spec: FleetSpec, found: list[Host]) -> None:
    ours = {h.record.name for h in mine(found)}
    plan = plan_fleet(spec, NEW, found)
    assert {a.name for a in plan.actions if a.verb != "create"} <= ours
    after = applied(plan, spec, NEW, found)
    assert [h for h in found if h not in mine(found)] == [h for h in after if h not in mine(after)]


@given(FLEETS, YARDS)
def test_no_good_host_is_lost_for_a_worse_one(spec: FleetSpec, found: list[Host]) -> None:
    good = [h for h in mine(found) if h.serving and (h.record.generation, h.record.spec) == (NEW, spec.host)]
    names = {h.record.name for h in good}
    lost = [a for a in plan_fleet(spec, NEW, found).actions if a.name in names and a.verb in ("destroy", "replace")]
    assert len(lost) == max(0, len(good) - spec.count)


@given(FLEETS, YARDS)
def test_a_plan_does_not_depend_on_the_order_of_the_listing(spec: FleetSpec, found: list[Host]) -> None:
    assert plan_fleet(spec, NEW, found) == plan_fleet(spec, NEW, list(reversed(found)))


@given(FLEETS, YARDS)
def test_every_action_says_why_and_shows_both_sides(spec: FleetSpec, found: list[Host]) -> None:
    plan = plan_fleet(spec, NEW, found)
    for action in plan.actions:
        assert action.reason
        assert bool(action.before) == (action.verb != "create")
        assert bool(action.after) == (action.verb != "destroy")
        assert action.before != action.after
    shown = plan.diff()
    assert {key.split()[1] for key in {**shown["before"], **shown["after"]}} == {a.name for a in plan.actions}


def test_serving_hosts_of_the_generation_are_kept_first() -> None:
    found = [
        host("off", name="ci-1", generation=NEW),
        host(name="ci-2", generation=OLD),
        host(name="ci-3", generation=NEW),
        host(name="ci-10", generation=NEW),
    ]
    plan = plan_fleet(FleetSpec("ci", "base", count=2), NEW, found)
    assert [(a.verb, a.name) for a in plan.actions] == [("destroy", "ci-1"), ("destroy", "ci-2")]


def test_a_name_that_a_single_host_has_is_passed_over() -> None:
    found = [host(fleet="", name="ci-1"), host(fleet="", name="ci-2", tenant="other")]
    plan = plan_fleet(FleetSpec("ci", "base", count=2), NEW, found)
    assert [a.name for a in plan.actions] == ["ci-2", "ci-3"]


def test_a_name_that_something_else_has_is_passed_over() -> None:
    plan = plan_fleet(FleetSpec("ci", "base", count=2), NEW, [host(name="ci-2", phase="creating")], ["ci-1", "ci-2"])
    assert [(a.verb, a.name) for a in plan.actions] == [("destroy", "ci-2"), ("create", "ci-2"), ("create", "ci-3")]


def test_a_name_that_is_freed_may_be_given_in_the_same_plan() -> None:
    plan = plan_fleet(FleetSpec("ci", "base", count=1), NEW, [host(name="ci-1", phase="creating")])
    assert [(a.verb, a.name) for a in plan.actions] == [("destroy", "ci-1"), ("create", "ci-1")]


def test_a_plan_without_a_template_shows_what_will_be() -> None:
    plan = plan_fleet(FleetSpec("ci", "base", count=2), UNKNOWN_GENERATION, [])
    assert [a.after["generation"] for a in plan.actions] == [UNKNOWN_GENERATION] * 2


def test_a_thousand_hosts_are_planned_in_a_moment() -> None:
    import time

    found = [host(name=f"ci-{n}", generation=OLD) for n in range(1, 1001)]
    begin = time.process_time()
    plan = plan_fleet(FleetSpec("ci", "base", count=1500), NEW, found)
    assert time.process_time() - begin < 1
    assert len(plan.actions) == 1500


# Single hosts

SINGLES = st.builds(lambda spec, labels: SingleSpec("ci-1", "base", host=spec, labels=labels), SPECS, LABELS)
ONE = HOSTS.map(lambda h: replace(h, record=replace(h.record, name="ci-1", fleet="", tenant="default")))


@given(SINGLES, st.none() | ONE)
def test_a_single_host_converges_in_one_apply(spec: SingleSpec, there: Host | None) -> None:
    now = there
    for action in plan_host(spec, "present", NEW, there).actions:
        if action.verb in ("create", "replace"):
            now = host(fleet="", name=spec.name, generation=NEW, spec=spec.host, labels=spec.labels)
        elif now and action.verb == "start":
            now = Host(now.record, "running")
        elif now and action.verb == "relabel":
            now = replace(now, record=replace(now.record, labels=spec.labels))
    assert now is not None
    assert now.serving
    assert (now.record.spec, now.record.labels) == (spec.host, spec.labels)
    assert plan_host(spec, "present", NEW, now) == Plan()


@given(SINGLES, ONE)
def test_what_is_asked_for_is_done_however_the_host_is(spec: SingleSpec, there: Host) -> None:
    half = there.record.phase != "ready"
    assert [a.verb for a in plan_host(spec, "restarted", NEW, there).actions] == ["replace" if half else "restart"]
    assert [a.verb for a in plan_host(spec, "replaced", NEW, there).actions] == ["replace"]
    assert [a.verb for a in plan_host(spec, "absent", NEW, there).actions] == ["destroy"]
    assert plan_host(spec, "absent", NEW, None) == Plan()


# Templates

TEMPLATE = TemplateSpec("base")
DECLARED = "r" * 64


def template(problem: str = "", **changes: object) -> Template:
    return Template(template_record(**changes), problem)


def test_a_template_as_declared_needs_nothing() -> None:
    assert plan_template(TEMPLATE, DECLARED, [template(recipe=DECLARED)]) == Plan()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "there is none"),
        ([template(recipe=DECLARED, phase="booting")], "it was left half-made"),
        ([template(recipe=DECLARED, problem="its file ram is gone")], "its file ram is gone"),
        ([template(recipe="other")], "its declaration changed"),
        ([template(recipe="other", created=5.0), template("its file ram is gone", recipe=DECLARED)],
         "its file ram is gone"),
        ([template(recipe=DECLARED, tenant="other")], "there is none"),
        ([template(recipe=DECLARED, name="other")], "there is none"),
    ],
)  # fmt: skip
def test_a_template_that_is_not_there_is_built_and_why(found: list[Template], reason: str) -> None:
    (action,) = plan_template(TEMPLATE, DECLARED, found).actions
    assert (action.verb, action.name, action.reason) == ("build", "base", reason)


def test_a_change_of_the_hardware_shows_in_the_diff() -> None:
    spec = TemplateSpec("base", hardware=Hardware(memory_mib=2048))
    (action,) = plan_template(spec, DECLARED, [template(recipe="other")]).actions
    assert action.before["memory_mib"] == 1024
    assert action.after["memory_mib"] == 2048


def test_hosts_are_made_of_the_newest_whole_generation() -> None:
    found = [
        template(created=1.0),
        template(created=3.0, generation=NEW),
        template(created=4.0, phase="booting"),
        template("gone", created=5.0),
    ]
    assert newest(found) == found[1]
    assert newest([]) is None
    assert generations("default", "base", reversed(found)) == found


def test_hosts_are_destroyed_before_their_templates() -> None:
    plan = plan_destroy([template()], [host(), host(name="ci-2")], "the end")
    assert [a.kind for a in plan.actions] == ["host", "host", "template"]
