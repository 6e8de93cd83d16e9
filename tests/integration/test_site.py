# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks site and teardown, from an empty yard to an empty yard, and the same job through
the SDK.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, SingleSpec, Yard
from stockyard.clock import SystemClock
from stockyard.pki.authority import Authority

from .conftest import CHECKOUT, Controller, Played

SITE, TEARDOWN = "stockyard.container_hosts.site", "stockyard.container_hosts.teardown"
DEMO = ("-e", f"yard={CHECKOUT}/examples/yard.yml")
TAKERS = sorted(
    p.stem for p in (CHECKOUT / "playbooks").glob("*.yml") if "declaration.yml" in p.read_text()
)
DECLARATION = {
    "yard_owner": "mine",
    "yard_templates": [{"name": "small", "memory_mib": 512}, {"name": "old", "state": "absent"}],
    "yard_fleets": [
        {"name": "one", "template": "small", "labels": {"stage": "test"}},
        {"name": "two", "template": "small", "state": "absent"},
    ],
}


def changed(played: Played, count: int) -> bool:
    """Whether it ended well and changed so many things."""
    return played.returncode == 0 and f"changed={count} " in played.stdout


def test_a_yard_from_nothing_to_nothing(controller: Controller) -> None:
    first = controller.run(SITE, *DEMO, "--check", "--diff")
    assert changed(first, 1), first.output
    for name in ("template docker", "host web-1", "host web-2", "host web-3"):
        assert f'"{name}"' in first.stdout
    assert not list(controller.state.parent.glob("yard.json*"))
    assert not (controller.home / ".config").exists()

    first_run = controller.run(SITE, *DEMO)
    assert changed(first_run, 1), first_run.output
    for host in first_run["stockyard.container_hosts.yard : Converge the yard"]["members"]:
        name, context = host["name"], host["docker"]["context"]
        # A table of the SSH commands, and one of the contexts, which can be created again.
        assert f'"{name}  {host["ssh"]["command"]}"' in first_run.stdout
        assert f'"{name}  docker context rm --force {name}; {context}"' in first_run.stdout

    second_run = controller.run(SITE, *DEMO)
    assert changed(second_run, 0), second_run.output
    assert '"web-3  ssh ' in second_run.stdout

    # Undeclared objects: a forgotten fleet, and a single host.
    with Yard(controller.hypervisor, owner="demo", pki_dir=str(controller.root / "pki")) as yard:
        yard.fleets.apply(FleetSpec("forgotten", template="docker"))
        yard.hosts.apply(SingleSpec("alone", template="docker"))

    dry = controller.run(TEARDOWN, *DEMO, "--check")
    assert changed(dry, 1), dry.output
    assert sorted(dry["Delete all hosts"]["hosts"]) == [
        "alone",
        "forgotten-1",
        "web-1",
        "web-2",
        "web-3",
    ]

    teardown_run = controller.run(TEARDOWN, *DEMO)
    assert changed(teardown_run, 1), teardown_run.output
    assert teardown_run["Delete all hosts"]["hosts"] == []
    with Yard(controller.hypervisor, owner="demo", pki_dir=str(controller.root / "pki")) as yard:
        assert [t.name for t in yard.templates.list()] == ["docker"]

    last = controller.run(TEARDOWN, *DEMO, "-e", "teardown_templates=true")
    assert changed(last, 1), last.output
    assert (
        controller.run(TEARDOWN, *DEMO, "-e", "teardown_templates=true")["Delete all hosts"][
            "changed"
        ]
        is False
    )
    assert not list((controller.root / "yard.json.d" / "disks").iterdir())


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA that is kept elsewhere."""
    return Authority.create("mine", datetime.fromtimestamp(SystemClock().now(), UTC))


def test_a_declaration_of_the_users_own(controller: Controller, authority: Authority) -> None:
    pki: dict[str, Any] = {"pki_dir": str(controller.root / "mine")}
    keys = {"yard_ca_certificate": authority.pem(), "yard_ca_private_key": authority.key_pem()}
    own_declaration = {**DECLARATION, **keys, "yard_pki_dir": pki["pki_dir"]}
    (controller.home / "mine.yml").write_text(json.dumps(own_declaration))
    site_run = controller.run(SITE, "-e", "yard=mine.yml", "-vvvv")
    assert changed(site_run, 1), site_run.output
    assert changed(controller.run(SITE, "-e", "yard=mine.yml"), 0)
    assert authority.key_pem().splitlines()[1] not in site_run.output
    with Yard(controller.hypervisor, owner="mine", **pki) as yard:
        assert [(h.name, h.labels) for h in yard.hosts.list()] == [("one-1", {"stage": "test"})]
        assert [t.hardware.memory_mib for t in yard.templates.list()] == [512]
    with Yard(controller.hypervisor, **pki) as yard:
        assert yard.templates.list() == ()


def test_an_option_that_does_not_exist_is_refused(controller: Controller, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("yard_fleets: [{name: web, template: docker, cuont: 3}]\n")
    bad = controller.run(SITE, "-e", f"yard={tmp_path}/bad.yml")
    assert bad.returncode != 0
    assert "cuont" in bad.output


@pytest.mark.parametrize("playbook", [SITE, TEARDOWN, "stockyard.container_hosts.rebuild"])
def test_a_variable_that_does_not_exist_is_refused(
    controller: Controller, tmp_path: Path, playbook: str
) -> None:
    """Else the yard of the default owner would be meant."""
    (tmp_path / "bad.yml").write_text("yard_ower: mine\nmy_owner: x\nyard_fleets: []\n")
    bad = controller.run(playbook, "-e", f"yard={tmp_path}/bad.yml")
    assert bad.returncode != 0
    assert "yard_ower is not known" in bad.output
    assert "bad.yml" in bad.output


@pytest.mark.parametrize(
    ("playbook", "named"),
    [
        *((playbook, []) for playbook in TAKERS),
        *(
            ("site", ["-e", wrong])
            for wrong in ("yards=mine.yml", "yard_file=mine.yml", "@mine.yml")
        ),
    ],
)
def test_playbook_without_declaration_is_refused(
    controller: Controller, playbook: str, named: list[str]
) -> None:
    """No file is a default: its owner would be another user."""
    (controller.home / "mine.yml").write_text(json.dumps(DECLARATION))
    before = controller.state.read_bytes() if controller.state.exists() else b""
    refused = controller.run(f"stockyard.container_hosts.{playbook}", *named)
    assert refused.returncode != 0
    assert "-e yard=FILE" in refused.output
    assert "Traceback" not in refused.output
    assert (controller.state.read_bytes() if controller.state.exists() else b"") == before


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_site_with_the_declaration_of_another_yard_is_refused(
    controller: Controller, arguments: list[str]
) -> None:
    """The owner is the same, and the fleets are not: nothing is deleted, and check mode says so."""
    (controller.home / "mine.yml").write_text(json.dumps(DECLARATION))
    assert controller.run(SITE, "-e", "yard=mine.yml").returncode == 0
    other_declaration = {**DECLARATION, "yard_fleets": [{"name": "three", "template": "small"}]}
    (controller.home / "other.yml").write_text(json.dumps(other_declaration))
    before = controller.state.read_bytes()
    refused = controller.run(SITE, "-e", "yard=other.yml", *arguments)
    assert refused.returncode != 0
    assert "the run would delete 1 of 1 hosts (one-1). Nothing was changed." in refused.output
    assert controller.state.read_bytes() == before


def test_error_names_the_failed_object(controller: Controller, tmp_path: Path) -> None:
    wrong = "[{name: a, template: docker}, {name: b, template: docker, count: -1}]"
    (tmp_path / "bad.yml").write_text(f"yard_templates: [{{name: docker}}]\nyard_fleets: {wrong}\n")
    bad = controller.run(SITE, "-e", f"yard={tmp_path}/bad.yml")
    assert "fleet b: count: -1 is not a whole number" in bad.output


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        (
            "yard_fleets: [{name: a, template: docker}, {name: b, template: docker, count: few}]",
            "fleet b: argument 'count' is of type",
        ),
        ("yard_templates: [{name: docker, packages: {a: b}}]", "template docker: argument"),
        (
            "yard_fleets: [{name: b, template: docker, labels: {a: 1}}]",
            "fleet b: label a: 1 is not text. Remedy: put the value in quotes",
        ),
        ("yard_fleets: few", "fleets is no list"),
        ("yard_prune: perhaps", "value of prune must be one of"),
    ],
)
def test_wrong_type_names_the_object_and_no_specification(
    controller: Controller, tmp_path: Path, declaration: str, expected: str
) -> None:
    (tmp_path / "bad.yml").write_text(f"{declaration}\n")
    bad = controller.run(SITE, "-e", f"yard={tmp_path}/bad.yml")
    assert bad.returncode != 0
    assert expected in bad.output
    assert "description" not in bad.output
    assert len(bad.output) < 3000


@pytest.mark.parametrize(
    "text",
    [
        "# comment\n---\n\n- hosts: localhost\n  tasks: []\n",
        '[{"hosts": "localhost"}]\n',
    ],
)
@pytest.mark.parametrize("playbook", TAKERS)
def test_playbook_in_place_of_a_declaration_is_refused(
    controller: Controller, tmp_path: Path, playbook: str, text: str
) -> None:
    (tmp_path / "play.yml").write_text(text)
    refused = controller.run(
        f"stockyard.container_hosts.{playbook}", "-e", f"yard={tmp_path}/play.yml"
    )
    assert refused.returncode != 0
    assert "play.yml is a playbook or another list" in refused.output


def test_the_sdk_does_the_same_in_a_few_lines(controller: Controller, tmp_path: Path) -> None:
    example = CHECKOUT / "examples" / "sdk.py"
    assert len(example.read_text().splitlines()) < 25
    environment = {
        **controller.environment,
        "STOCKYARD_HYPERVISOR": f"memory://{tmp_path}/yard.json",
    }
    result = subprocess.run(
        [sys.executable, example],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    for name in ("web-1", "web-2", "web-3"):
        assert f"host {name}: ready" in result.stdout
        assert f"\n{name}\nssh -p 2222" in result.stdout
