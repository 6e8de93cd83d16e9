# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisor of a declaration reaches each module of each playbook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
REACHES = {
    "hypervisor",
    "owner",
    "storage",
    "username",
    "password",
    "validate_certs",
    "ca_path",
    "pki_dir",
}
MAKES = {"ca_certificate", "ca_private_key", "volume_key"}
# These make hosts, or open what is theirs.
MAKERS = {
    "build_push_dispose.yml",
    "jenkins_agents.yml",
    "lease.yml",
    "molecule_create.yml",
    "reap.yml",
    "main.yml",
}
# It asks a hypervisor, and no yard on it.
ASKS = {"vsphere_preflight.yml": {"owner", "pki_dir"}}
# They call no module of a yard, or only the role.
WITHOUT_MODULES = {"rebuild.yml", "registry.yml", "vsphere_template.yml"}
# They are included in the role's main.yml, which has module defaults for all modules.
INCLUDED = {"archive.yml", "generations.yml", "registry.yml", "templates.yml", "transferred.yml"}
FILES = sorted(
    [
        *(CHECKOUT / "playbooks").glob("*.yml"),
        *(CHECKOUT / "roles" / "yard" / "tasks").glob("*.yml"),
    ]
)


def given(content: Any) -> Iterator[dict[str, Any]]:
    """The options of modules that are told of a declared hypervisor."""
    if isinstance(content, dict):
        if "yard_hypervisor" in str(content.get("hypervisor")):
            yield content
        for value in content.values():
            yield from given(value)
    elif isinstance(content, list):
        for value in content:
            yield from given(value)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_option_is_left_out(path: Path) -> None:
    expected = (REACHES | (MAKES if path.name in MAKERS else set())) - ASKS.get(path.name, set())
    options_of_tasks = list(given(yaml.safe_load(path.read_text())))
    assert bool(options_of_tasks) is (path.name not in WITHOUT_MODULES | INCLUDED)
    for options in options_of_tasks:
        assert expected - set(options) == set()
        assert all(f"yard_{name}" in str(options[name]) for name in expected)


def test_module_defaults_of_the_role_reach_all_modules() -> None:
    tasks = yaml.safe_load((CHECKOUT / "roles/yard/tasks/main.yml").read_text())
    (block,) = (entry for entry in tasks if "module_defaults" in entry)
    assert set(block["module_defaults"]) == {"group/stockyard.container_hosts.all"}
    included = {path.name for path in FILES if path.parent.name == "tasks"}
    assert included == INCLUDED | {"main.yml"}


PLAYBOOKS = [path for path in FILES if path.parent.name == "playbooks"]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda p: p.name)
def test_playbooks_validate_their_declaration_first(path: Path) -> None:
    play = yaml.safe_load(path.read_text())[0]
    if "{{ declaration_file }}" in play.get("vars_files", []):
        assert play["vars_files"][0] == "vars/declaration.yml"
        assert "declaration_problem" in str(play["pre_tasks"][0])
    assert "examples" not in str(play)


def test_names_that_the_role_sets_are_known_to_a_later_play() -> None:
    known = yaml.safe_load((CHECKOUT / "playbooks" / "vars" / "declaration.yml").read_text())[
        "declaration_results"
    ]
    texts = [p.read_text() for p in (CHECKOUT / "roles" / "yard" / "tasks").glob("*.yml")]
    registered = {name for text in texts for name in re.findall(r"register: (yard_\w+)", text)}
    facts = {
        name
        for text in texts
        for task in yaml.safe_load(text)
        for entry in (task, *task.get("block", []))
        for name in entry.get("ansible.builtin.set_fact", {})
    }
    assert sorted(registered | facts) == known
