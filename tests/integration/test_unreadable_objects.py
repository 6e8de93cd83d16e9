# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects without proof of ownership survive each playbook."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, TemplateSpec, Yard
from stockyard.hypervisor.records import encode

from .conftest import CHECKOUT, Controller

DECLARATION = {
    "yard_owner": "mine",
    "yard_templates": [{"name": "docker", "memory_mib": 512}],
    "yard_fleets": [{"name": "web", "template": "docker", "count": 2}],
}
# The options of each playbook; others get the declaration alone.
OPTIONS = {
    "lease": ["-e", "lease_fleet=web", "-e", "lease_holder=me"],
    "reap": ["-e", "reap_grace=0s"],
    "teardown": ["-e", "teardown_templates=true"],
}
# The one that leaves nothing to do for the others comes last.
# A terminal would obey these.
ESCAPES = "\x1b\x07\x9b\u202e\r"
PLAYBOOKS = sorted(
    (p.stem for p in (CHECKOUT / "playbooks").glob("*.yml")),
    key=lambda name: (name == "teardown", name),
)


@pytest.fixture(scope="module")
def declaration(controller: Controller) -> Path:
    path = controller.root / "yard.yml"
    path.write_text(json.dumps(DECLARATION))
    return path


def machines(controller: Controller) -> dict[str, Any]:
    lines = controller.state.read_text().splitlines()[1:]
    return {name: machine for name, machine in map(json.loads, lines) if machine is not None}


@pytest.fixture(scope="module")
def zoo(controller: Controller, declaration: Path) -> Callable[[], dict[str, Any]]:
    """A foreign machine with stockyard's prefix, one with a corrupt record, a copy of one, and one
    of another owner.
    """
    with Yard(controller.hypervisor, owner="mine", pki_dir=str(controller.root / "pki")) as yard:
        yard.templates.apply(TemplateSpec("docker"))
        yard.fleets.apply(FleetSpec("web", "docker", 3))
        own_records = {h.record.name: h.record for h in yard.context.provider.observe("mine").hosts}
    with Yard(
        controller.hypervisor, owner="theirs", pki_dir=str(controller.root / "pki")
    ) as other_yard:
        other_yard.templates.apply(TemplateSpec("docker"))
        other_yard.fleets.apply(FleetSpec("web", "docker", 1))
        (foreign_record,) = (h.record for h in other_yard.context.provider.observe("theirs").hosts)
    broken = machines(controller)[own_records["web-3"].domain]
    added = {
        "mine.default.web-7": {"record": "", "state": "running", "link": True, "backing": ""},
        f"mine.default.web-9{ESCAPES}": {
            "record": "",
            "state": "running",
            "link": True,
            "backing": "",
        },
        "mine.default.web-8": {
            "record": encode(own_records["web-2"]),
            "state": "off",
            "link": False,
            "backing": "",
        },
        own_records["web-3"].domain: {**broken, "record": broken["record"][:-9]},
        foreign_record.domain: {
            **machines(controller)[foreign_record.domain],
            "record": encode(replace(foreign_record, phase="deleting")),
        },
    }
    with controller.state.open("a") as state:
        state.writelines(json.dumps([name, machine]) + "\n" for name, machine in added.items())
    disks = controller.state.with_name(f"{controller.state.name}.d") / "disks"
    kept_disks = [disks / own_records["web-3"].uuid, disks / foreign_record.uuid]

    def now() -> dict[str, Any]:
        machines_then = machines(controller)
        files = {str(path): sorted(p.name for p in path.rglob("*")) for path in kept_disks}
        return {**{name: machines_then.get(name) for name in added}, **files}

    return now


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_objects_without_proof_of_ownership_survive(
    controller: Controller, declaration: Path, zoo: Callable[[], dict[str, Any]], playbook: str
) -> None:
    before = zoo()
    assert None not in before.values()
    result = controller.run(
        f"stockyard.container_hosts.{playbook}",
        "-e",
        f"yard={declaration}",
        *OPTIONS.get(playbook, []),
    )
    assert zoo() == before, result.output
    assert not set(ESCAPES) & set(result.output)
    if playbook == "reap":
        for name in (
            "mine.default.web-7",
            "mine.default.web-8",
            "mine.default.web-3",
            "theirs.default.web-1",
        ):
            assert f"machine {name}: " in result.stdout
