# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared objects are validated as Ansible validates them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from stockyard import InvalidInput
from stockyard.declarations.validation import validated
from stockyard.declarations.yard import declaration

checked = importlib.import_module("plugins.module_utils._ansible").checked

PARAMS = {"prune": "yes", "evacuate": True, "rebuild": False, "local_hypervisor": "localhost"}
IMAGE = f"registry.example/app@sha256:{64 * 'a'}"
OBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("fleets", {"name": "web", "template": "docker", "count": 3, "ports": [8080], "ttl": "8h"}),
    ("fleets", {"name": "web", "template": "docker", "count": "3", "ports": "80,81", "wait": "no"}),
    ("fleets", {"name": "web", "template": "docker", "names": [], "labels": {"a": "1"}}),
    ("fleets", {"name": "web", "state": "absent"}),
    ("fleets", {"name": "web", "state": "suspended"}),
    ("fleets", {"name": "web", "template": "docker", "update": {"max_unavailable": 2}}),
    ("fleets", {"name": "web", "template": "x", "volumes": [{"name": "data", "path": "/data"}]}),
    ("templates", {"name": "docker", "memory_mib": 1024, "packages": ["git", "jq"]}),
    ("templates", {"name": "docker", "packages": "git,jq", "max_age": "30d", "vcpus": 2.0}),
    ("templates", {"name": "docker", "security": {"profile": "hostile", "limits": {"pids": 9}}}),
    ("templates", {"name": "docker", "provision": {"playbook": "site.yml"}}),
    (
        "templates",
        {
            "name": "docker",
            "preload": [{"image": IMAGE, "name": "app:1"}],
        },
    ),
    ("pools", {"name": "small", "hosts": 2, "memory_overcommit": "1.5", "expandable": "off"}),
    ("volumes", {"name": "data", "size_gib": 20}),
    ("endpoints", {"name": "doors", "template": "docker", "socket": "~/doors.sock"}),
]
MISTAKES: list[tuple[str, Any]] = [
    ("fleets", {"template": "docker"}),
    ("fleets", {"name": "web", "template": "docker", "cuont": 3}),
    ("fleets", {"name": "web", "template": "docker", "count": "many"}),
    ("fleets", {"name": "web", "template": "docker", "state": "gone"}),
    ("fleets", {"name": "web", "template": "docker", "egress": "maybe"}),
    ("fleets", {"name": "web", "template": "docker", "wait": "maybe"}),
    ("fleets", {"name": "web", "template": "docker", "ports": {"a": "b"}}),
    ("fleets", {"name": "web", "template": "docker", "labels": ["a"]}),
    ("fleets", {"name": "web", "template": "docker", "volumes": [{"path": "/data"}]}),
    ("fleets", "web"),
    ("templates", {"name": "docker", "provision": {}}),
    ("templates", {"name": "docker", "provision": {"playbook": "a", "roles": ["b"]}}),
    ("templates", {"name": "docker", "security": {"limits": {"pids": "x"}}}),
    ("pools", {"name": "small", "hosts": 1.5}),
]


def declare(kind: str, item: Any, check: Any) -> Any:
    return declaration({**PARAMS, "declaration": {kind: [item]}}, check)


@pytest.mark.parametrize(("kind", "item"), OBJECTS)
def test_declared_object_is_the_same_as_with_ansible(kind: str, item: dict[str, Any]) -> None:
    assert declare(kind, item, validated) == declare(kind, item, checked)


@pytest.mark.parametrize(("kind", "item"), MISTAKES)
def test_mistake_is_refused_as_with_ansible(kind: str, item: Any) -> None:
    for check in (checked, validated):
        # Ansible imports the SDK under another name.
        with pytest.raises(Exception, match=f"{kind} 1|{kind[:-1]} (web|docker|small)") as caught:
            declare(kind, item, check)
        assert type(caught.value).__name__ == InvalidInput.__name__


def test_mistake_names_its_place() -> None:
    item = {"name": "web", "template": "docker", "volumes": [{"path": 1, "nmae": "x"}]}
    with pytest.raises(InvalidInput, match=r"fleet web: volumes\.nmae is not known"):
        declare("fleets", item, validated)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fleet is not known"):
        declare("fleet", {}, validated)


@pytest.mark.parametrize("items", [{}, "", False, {"name": "web"}])
def test_value_that_is_no_list_is_refused(items: Any) -> None:
    with pytest.raises(InvalidInput, match="fleets is no list"):
        declaration({**PARAMS, "declaration": {"fleets": items}}, validated)


def test_list_without_a_value_declares_nothing() -> None:
    assert not declaration({**PARAMS, "declaration": {"fleets": None}}, validated).fleets
