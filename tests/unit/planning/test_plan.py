# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans, against a model of a hypervisor that does exactly what a plan says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.model.fleet import FleetSpec, SingleSpec
from stockyard.model.host import HOST_PHASES, RUN_STATES, Host, HostSpec
from stockyard.model.observation import Template, generations, newest
from stockyard.model.template import Hardware, Source, TemplateSpec
from stockyard.planning.plan import Plan, plan_deletion, plan_host
from stockyard.planning.templates import GUEST_FILES_CHANGED, TemplateContext, plan_template
from tests.helpers.samples import host, template_record

OLD, NEW = "a" * 64, "b" * 64
OPTIONS = "c" * 64
SPECS = st.sampled_from([HostSpec(), HostSpec(ports=(80,)), HostSpec(engine_identity="unique")])
LABELS = st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": ""}])
HOSTS = st.builds(
    lambda tenant, fleet, number, phase, state, generation, spec, labels: host(
        state,
        tenant=tenant,
        fleet=fleet,
        name=f"{fleet or 'ci'}-{number}",
        phase=phase,
        generation=generation,
        spec=spec,
        labels=labels,
    ),
    st.sampled_from(["default", "default", "other"]),
    st.sampled_from(["ci", "ci", "ci", "web", ""]),
    st.integers(1, 9),
    st.sampled_from([*HOST_PHASES, "ready", "ready"]),
    st.sampled_from([*RUN_STATES, "running"]),
    st.sampled_from([OLD, NEW]),
    SPECS,
    LABELS,
)
# On one hypervisor a name is there once in a tenant.
YARDS = st.lists(HOSTS, max_size=12, unique_by=lambda h: (h.record.tenant, h.record.name))
FLEETS = st.builds(
    lambda count, spec, labels: FleetSpec("ci", "base", count=count, host=spec, labels=labels),
    st.integers(0, 8),
    SPECS,
    LABELS,
)


# Single hosts

SINGLES = st.builds(
    lambda spec, labels: SingleSpec("ci-1", "base", host=spec, labels=labels), SPECS, LABELS
)
ONE = HOSTS.map(
    lambda h: replace(h, record=replace(h.record, name="ci-1", fleet="", tenant="default"))
)


@given(SINGLES, st.none() | ONE)
def test_a_single_host_converges_in_one_apply(spec: SingleSpec, current: Host | None) -> None:
    now = current
    for action in plan_host(spec, "present", NEW, current).actions:
        if action.verb in ("create", "replace"):
            now = host(fleet="", name=spec.name, generation=NEW, spec=spec.host, labels=spec.labels)
        elif now and action.verb in ("start", "resume"):
            now = Host(now.record, "running")
        elif now and action.verb == "relabel":
            now = replace(now, record=replace(now.record, labels=spec.labels))
    assert now is not None
    assert now.serving
    assert (now.record.spec, now.record.labels) == (spec.host, spec.labels)
    assert plan_host(spec, "present", NEW, now) == Plan()


@given(SINGLES, ONE)
def test_requested_action_is_planned_in_each_state_of_the_host(
    spec: SingleSpec, current: Host
) -> None:
    half = current.record.phase != "ready"
    assert [a.verb for a in plan_host(spec, "restarted", NEW, current).actions] == [
        "replace" if half else "restart"
    ]
    assert [a.verb for a in plan_host(spec, "replaced", NEW, current).actions] == ["replace"]
    assert [a.verb for a in plan_host(spec, "absent", NEW, current).actions] == ["delete"]
    assert plan_host(spec, "absent", NEW, None) == Plan()


# Templates

TEMPLATE = TemplateSpec("base")
DECLARED = "r" * 64


def template(problem: str = "", **changes: object) -> Template:
    return Template(template_record(**changes), problem)


def test_a_template_as_declared_needs_nothing() -> None:
    assert plan_template(TEMPLATE, DECLARED, [template(recipe=DECLARED)]) == Plan()


@pytest.mark.parametrize(
    ("templates", "reason"),
    [
        ([], "it does not exist"),
        ([template(recipe=DECLARED, phase="booting")], "it is incomplete"),
        ([template(recipe=DECLARED, problem="its file ram is missing")], "its file ram is missing"),
        ([template(recipe="other", options="0" * 64)], "its declaration changed"),
        ([template(recipe="other", options=OPTIONS)], GUEST_FILES_CHANGED),
        # Records of earlier versions do not have the digest of the options.
        ([template(recipe="other")], GUEST_FILES_CHANGED),
        ([template(recipe="other", docker="stopped")], "its declaration changed"),
        ([template(recipe="other", hardware=Hardware(2))], "its declaration changed"),
        (
            [template(recipe="other", source=Source("bookworm", ()))],
            "its release is trixie, and was bookworm",
        ),
        (
            [
                template(recipe="other", created=5.0),
                template("its file ram is missing", recipe=DECLARED),
            ],
            "its file ram is missing",
        ),
        ([template(recipe=DECLARED, tenant="other")], "it does not exist"),
        ([template(recipe=DECLARED, name="other")], "it does not exist"),
    ],
)
def test_missing_template_is_built_with_the_reason(templates: list[Template], reason: str) -> None:
    context = TemplateContext(options=OPTIONS)
    (action,) = plan_template(TEMPLATE, DECLARED, templates, context).actions
    assert (action.verb, action.name, action.reason) == ("build", "base", reason)


def test_a_change_of_the_hardware_shows_in_the_diff() -> None:
    spec = TemplateSpec("base", hardware=Hardware(memory_mib=2048))
    (action,) = plan_template(spec, DECLARED, [template(recipe="other")]).actions
    assert action.before["memory_mib"] == 1024
    assert action.after["memory_mib"] == 2048


def test_hosts_are_forked_from_the_newest_complete_generation() -> None:
    templates = [
        template(created=1.0),
        template(created=3.0, generation=NEW),
        template(created=4.0, phase="booting"),
        template("gone", created=5.0),
    ]
    assert newest(templates) == templates[1]
    assert newest([]) is None
    assert generations("default", "base", reversed(templates)) == templates


def test_hosts_are_destroyed_before_their_templates() -> None:
    plan = plan_deletion([template()], [host(), host(name="ci-2")], "the end")
    assert [a.kind for a in plan.actions] == ["host", "host", "template"]
