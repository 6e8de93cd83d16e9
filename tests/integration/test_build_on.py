# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook site with ``yard_build_on``: one of several hypervisors builds the templates."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import Yard
from stockyard.model import codec
from stockyard.model.template_info import TemplateInfo
from stockyard.providers.memory.provider import PLATFORM
from tests.helpers.oci_registry import OciRegistry, serving

from .conftest import Controller, Played

SITE = "stockyard.container_hosts.site"
LOGIN = ("robot", "top-secret-token")
# The hypervisor that builds, one of its platform with another authority, and one of another
# platform.
BUILDER, EQUAL, OTHER = "middle", "east", "west"
NAMES = (EQUAL, BUILDER, OTHER)


class Region:
    """Three hypervisors in one inventory, and a registry."""

    def __init__(self, controller: Controller, registry: OciRegistry) -> None:
        self.controller, self.registry = controller, registry
        facts = {
            name: {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "yard_hypervisor": f"memory://{controller.root}/{name}",
                "yard_pki_dir": str(controller.root / f"pki-{name}"),
            }
            for name in NAMES
        }
        self.yards = {
            name: (entry["yard_hypervisor"], entry["yard_pki_dir"]) for name, entry in facts.items()
        }
        (controller.home / "hosts.json").write_text(json.dumps({"regions": {"hosts": facts}}))
        slow = replace(PLATFORM, cpu_model="another", cpu_features=())
        self.folder(OTHER).mkdir()
        (self.folder(OTHER) / "platform.json").write_text(json.dumps(codec.to_dict(slow)))

    def folder(self, name: str) -> Path:
        return self.controller.root / f"{name}.d"

    def site(self, *arguments: str, **variables: Any) -> Played:
        """Run the playbook; the declaration has these variables too."""
        declared = {
            "yard_templates": [{"name": "docker"}],
            "yard_build_on": BUILDER,
            **variables,
        }
        declaration = self.controller.home / "yard.yml"
        declaration.write_text(json.dumps(declared))
        return self.controller.run(
            SITE, "-i", "hosts.json", "-e", "yard=yard.yml", "-e", "yard_on=regions", *arguments
        )

    def site_by_registry(self, *arguments: str) -> Played:
        return self.site(
            *arguments,
            yard_registry=f"{self.registry.address}/team",
            yard_registry_username=LOGIN[0],
            yard_registry_password=LOGIN[1],
        )

    def templates(self, name: str) -> dict[str, TemplateInfo]:
        """Return the current generations on a hypervisor."""
        uri, pki_dir = self.yards[name]
        with Yard(uri, pki_dir=pki_dir) as yard:
            return {template.name: template for template in yard.templates.list()}

    def generations(self) -> dict[str, dict[str, str]]:
        return {
            name: {key: template.generation for key, template in self.templates(name).items()}
            for name in NAMES
        }

    def publish_packages(self, version: str) -> None:
        """Give all hypervisors a mirror with this version of Docker."""
        for name in NAMES:
            (self.folder(name) / "mirror.json").write_text(json.dumps({"docker.io": version}))


@pytest.fixture(scope="module")
def region(controller: Controller) -> Iterator[Region]:
    with serving(OciRegistry(LOGIN)) as registry:
        yield Region(controller, registry)


def changed_hosts(played: Played) -> list[str]:
    """Return the hypervisors on which a run changed something, from the recap."""
    lines = played.stdout.partition("PLAY RECAP")[2].splitlines()
    return [line.split()[0] for line in lines if "changed=" in line and "changed=0" not in line]


def test_one_hypervisor_builds_for_all(region: Region) -> None:
    """One test: each run of the playbook continues the one before."""
    by_registry = region.site_by_registry()
    assert by_registry.returncode == 0, by_registry.output
    check_first_run(region, by_registry)
    check_nothing_changes(region)
    check_new_packages(region)


def check_first_run(region: Region, played: Played) -> None:
    """The equal hypervisor fetches what the builder built, and the other one builds for itself."""
    generations = region.generations()
    assert generations[EQUAL] == generations[BUILDER] == generations[OTHER]
    assert set(generations[EQUAL]) == {"docker"}
    check_origins(region)
    for name in (EQUAL, OTHER):
        assert not any(template.drift for template in region.templates(name).values())
    assert f"{OTHER} builds it and does not load that of {BUILDER}." in played.output
    assert "CPU model simulated was frozen, and the hypervisor has another" in played.output
    assert f"{EQUAL} builds it" not in played.output
    assert region.registry.sent
    assert LOGIN[1] not in played.output


def check_origins(region: Region) -> None:
    """The record of a received template has the time of its build."""
    created = {name: region.templates(name)["docker"].created for name in NAMES}
    assert created[EQUAL] == created[BUILDER]
    assert created[OTHER] > created[BUILDER]


def check_nothing_changes(region: Region) -> None:
    """A second run moves nothing, also if the way to distribute templates is another one."""
    requests = region.registry.requests.total()
    before = {name: region.templates(name) for name in NAMES}
    second = region.site_by_registry()
    limited = region.site("--limit", f"!{BUILDER}")
    for played in (second, limited):
        assert played.returncode == 0, played.output
        assert changed_hosts(played) == []
    assert f"{BUILDER} builds the templates and is not part of this run." in limited.output
    assert region.registry.requests.total() == requests
    assert {name: region.templates(name) for name in NAMES} == before


def check_new_packages(region: Region) -> None:
    """A rebuild without a registry is carried through the controller; check mode moves nothing."""
    before = region.generations()
    region.publish_packages("2")
    uri, pki_dir = region.yards[EQUAL]
    with Yard(uri, pki_dir=pki_dir) as yard:
        yard.templates.delete("docker")
    missing = region.generations()
    dry = region.site("--check", "--diff")
    assert dry.returncode == 0, dry.output
    assert f"template docker: {EQUAL} would load the generation" in dry.output
    assert region.generations() == missing

    requests = region.registry.requests.total()
    carried = region.site("-e", "yard_rebuild=true")
    assert carried.returncode == 0, carried.output
    after = region.generations()
    assert after[EQUAL] == after[BUILDER] == after[OTHER]
    assert not set(after[EQUAL].values()) & set(before[EQUAL].values())
    check_origins(region)
    assert region.registry.requests.total() == requests
    assert "The processors of the two hypervisors differ." in carried.output
    folders = [
        result["path"]
        for name, result in carried.results.items()
        if "Create a directory for the file" in name
    ]
    assert len(folders) == 2
    assert not any(Path(folder).exists() for folder in folders)


def test_wrong_variables_are_refused_before_anything_changes(region: Region) -> None:
    for variables, message in (
        ({"yard_build_on": "nowhere"}, "names nowhere, which is not in the inventory"),
        ({"yard_build_on": "", "yard_registry": "r.example/team"}, "Set yard_build_on"),
    ):
        played = region.site(**variables)
        assert played.returncode != 0
        assert message in " ".join(played.output.split())
        assert "Build the templates" not in played.output
