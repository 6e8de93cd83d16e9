# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template_transfer in a play: from one simulated hypervisor to another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.oci_registry import OciRegistry, serving

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}


@pytest.fixture(scope="module")
def server() -> Iterator[OciRegistry]:
    with serving(OciRegistry(("robot", "top-secret-token"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def played(controller: Controller, server: OciRegistry) -> Played:
    place = f"{server.address}/team/docker:stable"
    login = {"registry_username": "robot", "registry_password": "top-secret-token"}
    push = {"operation": "push", "name": "docker", "reference": place, **login}
    pull = {"operation": "pull", "name": "pulled", "reference": place, **login}
    file = str(controller.root / "docker.tar")
    save = {"operation": "save", "name": "docker", "path": file}
    load = {"operation": "load", "name": "loaded", "path": file}
    folder = str(controller.root)
    keys = ["{{ pushed.artifact.key }}"]
    shared = {"owner": "second", "name": "shared", "share_dir": folder, "trusted_keys": keys}
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("dry push", "template_transfer", DRY, **push),
            task("push", "template_transfer", {"register": "pushed"}, **push),
            task("push again", "template_transfer", **push),
            task("dry pull", "template_transfer", DRY, **pull),
            task("pull", "template_transfer", **pull),
            task("pull again", "template_transfer", **pull),
            task("save", "template_transfer", **save),
            task("load", "template_transfer", **load),
            task("built", "template", name="shared", share_dir=folder),
            task("dry shared", "template", DRY, **shared),
            task("shared", "template", **shared),
            task("shared again", "template", **shared),
            task("no name", "template_transfer", operation="push", reference=place),
            task("no reference", "template_transfer", operation="pull", name="pulled"),
            task("no path", "template_transfer", operation="save", name="docker"),
            task("host", "host", name="one", template="pulled"),
            task("other host", "host", name="two", template="loaded"),
        ]
    )


def test_template_is_pushed_and_pulled_once(played: Played) -> None:
    assert [played[name]["changed"] for name in ("dry push", "push", "push again")] == [
        True,
        True,
        False,
    ]
    assert [played[name]["changed"] for name in ("dry pull", "pull", "pull again")] == [
        True,
        True,
        False,
    ]
    assert played["dry pull"]["template"] is None
    generation = played["template"]["template"]["generation"]
    assert played["push"]["artifact"]["generation"] == generation
    assert played["push"]["template"] is None
    assert played["pull"]["template"]["generation"] == generation
    assert played["dry pull"]["diff"]["after"] == {"template pulled": {"generation": generation}}


def test_hosts_are_forked_from_received_templates_at_once(played: Played) -> None:
    for name in ("host", "other host"):
        assert played[name]["host"]["mode"] == "instant"


def test_template_of_another_owner_is_loaded_once(played: Played) -> None:
    names = ("built", "dry shared", "shared", "shared again")
    assert [played[name]["changed"] for name in names] == [True, True, True, False]
    generation = played["built"]["template"]["generation"]
    assert played["dry shared"]["diff"]["after"] == {"template shared": {"generation": generation}}
    assert played["shared"]["template"]["generation"] == generation
    assert played["shared"]["plan"][0].startswith("load template shared: ")


def test_missing_options_are_named(played: Played) -> None:
    for missing in ("name", "reference", "path"):
        result = played[f"no {missing}"]
        assert result["failed"]
        assert result["msg"].endswith(f"all of the following are missing: {missing}")


def test_password_is_not_shown(played: Played) -> None:
    assert "top-secret-token" not in str(played)
