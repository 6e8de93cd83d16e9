# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved plans and declarations, as values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    InvalidInput,
    OperationRefused,
    TemplateSpec,
    TemplateTerm,
)
from stockyard.model import codec
from stockyard.planning.plan import Action, Plan
from stockyard.planning.saved_plan import read, seal
from tests.helpers.samples import HOSTILE, host, template_record

ACTION = Action("delete", "host", "ci-1", "it is declared absent", {"state": "running"}, {})
PLAN = Plan(
    (
        ACTION,
        Action("create", "host", "ci-2", "the fleet has 1 of 2 hosts", {}, {"generation": "x"}, 1),
    )
)
TOUCHES = {"host default/ci-1": "u1@3"}
SAVED = seal("me", "memory:///x", "2026-01-01", PLAN, TOUCHES)


def test_plan_is_equal_after_saving_and_loading() -> None:
    assert read(json.loads(json.dumps(codec.to_dict(SAVED))), "plan.json") == SAVED


@pytest.mark.parametrize("field", ["owner", "hypervisor", "actions", "touches", "digest"])
def test_a_plan_that_was_changed_by_hand_is_refused(field: str) -> None:
    other_plan = codec.to_dict(
        seal("you", "memory:///y", "2026-01-01", Plan((ACTION,)), {"host default/ci-1": "u1@4"})
    )
    with pytest.raises(InvalidInput, match="the plan was changed after it was saved"):
        read({**codec.to_dict(SAVED), field: other_plan[field]}, "plan.json")


@pytest.mark.parametrize(
    "data", [None, [], {}, {"format": 2}, {"format": 1}, {**codec.to_dict(SAVED), "more": 1}]
)
def test_file_that_is_no_plan_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInput):
        read(data, "plan.json")


def test_plan_is_valid_while_actions_and_records_are_the_same() -> None:
    SAVED.check(seal("me", "memory:///x", "2027-01-01", PLAN, TOUCHES))
    other_action = replace(ACTION, reason="in other words")
    SAVED.check(
        seal("me", "memory:///x", "2027-01-01", Plan((other_action, *PLAN.actions[1:])), TOUCHES)
    )


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (seal("you", "memory:///x", "", PLAN, TOUCHES), "the owner is you, not me"),
        (seal("me", "memory:///y", "", PLAN, TOUCHES), "the hypervisor is memory:///y"),
        (
            seal("me", "memory:///x", "", PLAN, {"host default/ci-1": "u1@4"}),
            "host default/ci-1 was changed",
        ),
        (
            seal("me", "memory:///x", "", PLAN, {"host default/ci-1": "u2@3"}),
            "host default/ci-1 was replaced",
        ),
        (seal("me", "memory:///x", "", PLAN, {}), "host default/ci-1 no longer exists"),
        (
            seal("me", "memory:///x", "", PLAN, {**TOUCHES, "host default/x": "u@1"}),
            "host default/x exists now",
        ),
        (
            seal("me", "memory:///x", "", Plan((ACTION,)), TOUCHES),
            "create host ci-2 is no longer planned",
        ),
        (
            seal(
                "me", "memory:///x", "", Plan((*PLAN.actions, replace(ACTION, name="z"))), TOUCHES
            ),
            "delete host z is now planned as well",
        ),
        (
            seal(
                "me", "memory:///x", "", Plan((ACTION, replace(PLAN.actions[1], wave=2))), TOUCHES
            ),
            "the details of the actions changed",
        ),
    ],
)
def test_outdated_plan_is_refused_with_the_changes(now: Any, why: str) -> None:
    with pytest.raises(OperationRefused, match="no longer matches the yard") as caught:
        SAVED.check(now)
    assert why in caught.value.cause


@given(st.lists(st.sampled_from(HOSTILE) | st.text(), min_size=1, max_size=3))
def test_page_of_a_plan_has_one_row_for_each_action(texts: list[str]) -> None:
    actions = tuple(Action("create", "host", text, text, {}, {"x": 1}) for text in texts)
    page = (
        seal("me", "memory:///x", "", Plan(actions), {}).markdown()
        if all(map(_text, texts))
        else ""
    )
    rows = [line for line in page.split("\n") if line.startswith("| create ")]
    assert not page or len(rows) == len(texts)
    for row in rows:
        assert row.replace("\\|", "").count("|") == 4
        assert "<" not in row
        assert "`" not in row.replace("\\`", "")


def _text(value: str) -> bool:
    try:
        return bool(value.encode()) or True
    except UnicodeEncodeError:
        return False


def test_empty_plan_is_named_empty() -> None:
    assert "Everything is as declared" in seal("me", "memory:///x", "", Plan(), {}).markdown()


# Declarations


def declared(
    fleets: tuple[str, ...] = (), templates: tuple[str, ...] = (), **options: Any
) -> Declaration:
    return Declaration(
        tuple(TemplateTerm(TemplateSpec(t)) for t in templates),
        tuple(FleetTerm(FleetSpec(f, "base")) for f in fleets),
        **options,
    )


HOSTS = [
    host(),
    host(fleet="web", name="web-1"),
    host(fleet="", name="alone"),
    host(tenant="other"),
]


@pytest.mark.parametrize(
    ("declaration", "going"),
    [
        (declared(("ci",)), []),
        (declared(("ci",), prune="yes"), [("default", "web"), ("other", "ci")]),
        (declared(("ci",), prune="force"), [("default", "web"), ("other", "ci")]),
        (declared(prune="yes"), []),
        (declared(templates=("base",), prune="yes"), []),
        (declared(prune="force"), [("default", "ci"), ("default", "web"), ("other", "ci")]),
        (declared(absent_fleets=(("default", "web"), ("default", "never"))), [("default", "web")]),
        (declared(absent_fleets=(("default", "web"),), prune="yes"), [("default", "web")]),
    ],
)
def test_pruned_objects_depend_on_the_declaration(
    declaration: Declaration, going: list[tuple[str, str]]
) -> None:
    assert list(declaration.fleets_to_go(HOSTS)) == going


def test_templates_go_by_the_same_rule() -> None:
    from stockyard.model.observation import Template

    templates = [Template(template_record(name=name)) for name in ("base", "old")]
    assert list(declared(templates=("base",), prune="yes").templates_to_go(templates)) == [
        ("default", "old")
    ]
    assert not declared(("ci",), prune="yes").templates_to_go(templates)


@pytest.mark.parametrize(
    "options",
    [
        {"fleets": ("a", "a")},
        {"fleets": ("a",), "absent_fleets": (("default", "a"),)},
        {"prune": "true"},
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        declared(**options)
