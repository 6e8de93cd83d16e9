# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook site over two hypervisors: each run makes its share, and one is left when the other
has taken over.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stockyard import Yard

from .conftest import Controller, Played

SITE = "stockyard.container_hosts.site"
# How many hosts each hypervisor has when the fleet is complete.
EACH = {"east": 2, "west": 2}


class Pair:
    """Two hypervisors in one inventory."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.uris = {name: f"memory://{controller.root}/{name}" for name in ("east", "west")}
        (controller.home / "hosts.json").write_text(
            json.dumps(
                {
                    "hypervisors": {
                        "hosts": {
                            name: {
                                "ansible_connection": "local",
                                "ansible_python_interpreter": sys.executable,
                                "yard_hypervisor": uri,
                            }
                            for name, uri in self.uris.items()
                        }
                    }
                }
            )
        )

    def site(self, east: dict[str, Any], *arguments: str) -> Played:
        fleet = {
            "name": "web",
            "template": "docker",
            "count": 4,
            "hypervisors": [{"name": "east", **east}, {"name": "west"}],
        }
        declared = {"yard_templates": [{"name": "docker"}], "yard_fleets": [fleet]}
        (self.controller.home / "yard.yml").write_text(json.dumps(declared))
        return self.controller.run(
            SITE, "-i", "hosts.json", "-e", "yard=yard.yml", "-e", "yard_on=hypervisors", *arguments
        )

    def converge(self) -> dict[str, list[str]]:
        """Run the playbook if the hypervisors do not have two hosts each; return their hosts."""
        if self.counts() != EACH:
            result = self.site({})
            assert result.returncode == 0, result.output
        return self.hosts()

    def counts(self) -> dict[str, int]:
        """Return how many hosts each hypervisor has."""
        return {name: len(hosts) for name, hosts in self.hosts().items()}

    def hosts(self) -> dict[str, list[str]]:
        hosts_of = {}
        for name, uri in self.uris.items():
            with Yard(uri, pki_dir=str(self.controller.root / "pki")) as yard:
                hosts_of[name] = [h.name for h in yard.hosts.list()]
        return hosts_of

    def mirror(self, name: str) -> Path:
        return self.controller.root / f"{name}.d" / "mirror.json"


def test_a_fleet_over_two_hypervisors(controller: Controller) -> None:
    pair = Pair(controller)
    first = pair.site({}, "--limit", "west")
    assert first.returncode == 0, first.output
    assert pair.hosts() == {"east": [], "west": ["web-west-1", "web-west-2"]}

    both = pair.site({})
    assert both.returncode == 0, both.output
    assert pair.hosts() == {
        "east": ["web-east-1", "web-east-2"],
        "west": ["web-west-1", "web-west-2"],
    }

    remaining = pair.site({"state": "evacuated"})
    assert remaining.returncode == 0, remaining.output
    assert pair.hosts() == {"east": [], "west": [f"web-west-{n}" for n in (1, 2, 3, 4)]}
    assert remaining.stderr.index("host web-west-4: ready") < remaining.stderr.index(
        "host web-east-1: deleted"
    )

    back = pair.site({})
    assert back.returncode == 0, back.output
    assert pair.counts() == EACH


def test_host_is_deleted_after_its_successors_are_ready(
    controller: Controller, tmp_path: Path
) -> None:
    pair = Pair(controller)
    before = pair.converge()
    # The other one cannot take its share.
    disks = controller.root / "west.d" / "disks"
    disks.rename(tmp_path / "disks")
    disks.write_text("")
    try:
        assert pair.site({"state": "evacuated"}).returncode != 0
        assert pair.hosts()["east"] == before["east"]
    finally:
        disks.unlink()
        (tmp_path / "disks").rename(disks)
    assert pair.site({}).returncode == 0
    assert pair.counts() == EACH


@pytest.mark.parametrize("moved", ["west"])
def test_templates_of_different_packages_are_not_taken_for_one(
    controller: Controller, moved: str
) -> None:
    pair = Pair(controller)
    before = pair.converge()
    pair.mirror(moved).write_text('{"docker.io": "2"}')
    bad = pair.site({}, "-e", "yard_rebuild=true")
    assert bad.returncode != 0
    assert "has another image on west than on east" in bad.output
    assert pair.hosts() == before
