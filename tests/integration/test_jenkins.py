# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules and the playbook for Jenkins, over the memory hypervisor and a stand-in for the
controller.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stockyard import Yard
from tests.jenkins.controller import TOKEN, USER, Jenkins, serving

from .conftest import CHECKOUT, PATIENCE, Controller, Played, task

PLAYBOOK = "stockyard.container_hosts.jenkins_agents"
DRY = {"check_mode": True, "diff": True}


@pytest.fixture(scope="module")
def jenkins() -> Iterator[Jenkins]:
    """One for all tests of this file, each with a fleet of its own."""
    with serving() as server:
        yield server


class Agents:
    """A fleet of agents, as a user declares it."""

    def __init__(
        self, controller: Controller, jenkins: Jenkins, fleet: str, **declared: Any
    ) -> None:
        self.controller, self.jenkins, self.fleet = controller, jenkins, fleet
        self.declared = {
            **yaml.safe_load((CHECKOUT / "examples" / "jenkins.yml").read_text()),
            "jenkins_url": jenkins.url,
            "jenkins_user": USER,
            "jenkins_token": TOKEN,
            "jenkins_fleet": fleet,
            "jenkins_labels": [fleet],
            "jenkins_setup": False,
            "jenkins_grace": "1s",
            **declared,
        }
        self.declare(count=3)

    def declare(self, **fleet: Any) -> None:
        fleets = [{"name": self.fleet, "template": "agent", **fleet}]
        self.file.write_text(json.dumps({**self.declared, "yard_fleets": fleets}))

    @property
    def file(self) -> Path:
        return self.controller.home / f"{self.fleet}.yml"

    def run(self, *arguments: str, code: int = 0) -> Played:
        result = self.controller.run(PLAYBOOK, "-e", f"yard={self.file.name}", *arguments)
        assert result.returncode == code, result.output
        assert TOKEN not in result.output
        return result

    def hosts(self) -> list[str]:
        """Return the expected names of the fleet's nodes."""
        with Yard(self.controller.hypervisor) as yard:
            return sorted(f"{h.name}-{h.uuid[:8]}" for h in yard.hosts.list(fleet=self.fleet))

    def nodes(self) -> list[str]:
        return [n for n in self.jenkins.names() if n.startswith(f"{self.fleet}-")]


def test_a_fleet_of_agents_lives(controller: Controller, jenkins: Jenkins) -> None:
    """Registered, one rebuilt while another builds, made smaller: nodes and hosts are equal each
    time.
    """
    agents = Agents(controller, jenkins, "agents")
    agents.run()
    first = agents.hosts()
    assert agents.nodes() == first
    assert len(first) == 3
    assert "changed=0 " in agents.run("--diff").stdout

    build = jenkins.build("agents")
    idle_node = next(n for n in first if n != build.node)
    agents.run("-e", json.dumps({"jenkins_rebuild": [idle_node.rpartition("-")[0]]}))
    assert idle_node not in agents.hosts()
    assert agents.nodes() == agents.hosts()
    assert {build.node} < set(first) & set(agents.hosts())
    assert jenkins.computers[build.node].builds == [build]
    jenkins.finish(build)

    before = agents.hosts()
    agents.declare(count=2)
    count = len(jenkins.requests)
    settings = Path(agents.run()["Create a private file for the settings of the hook"]["path"])
    assert not settings.exists()
    assert agents.nodes() == agents.hosts()
    (former_node,) = set(before) - set(agents.hosts())
    requests = jenkins.requests[count:]
    assert requests.index(f"POST /computer/{former_node}/changeOfflineCause") < requests.index(
        f"POST /computer/{former_node}/doDelete"
    )


@pytest.mark.full
def test_while_a_fleet_rolls_new_nodes_come_before_old_ones_go(
    controller: Controller, jenkins: Jenkins
) -> None:
    agents = Agents(controller, jenkins, "rolled")
    dry = agents.run("--check")
    assert agents.hosts() == agents.nodes() == []
    assert "create host rolled-3" in dry.stdout
    agents.run()
    before = agents.hosts()
    agents.declare(count=3, ports=[8080])
    count = len(jenkins.requests)
    agents.run()
    assert agents.nodes() == agents.hosts()
    assert not set(agents.hosts()) & set(before)
    requests = jenkins.requests[count:]
    created_at = requests.index("POST /computer/doCreateItem")
    for name in before:
        held = requests.index(f"POST /computer/{name}/changeOfflineCause")
        assert created_at < held < requests.index(f"POST /computer/{name}/doDelete")


@pytest.mark.full
def test_a_controller_that_is_off_keeps_the_hosts(controller: Controller, jenkins: Jenkins) -> None:
    agents = Agents(controller, jenkins, "kept")
    agents.declare(count=1)
    agents.run()
    before = agents.hosts()
    agents.declare(count=1, ports=[8080])
    jenkins.broken["POST .*/changeOfflineCause"] = (500, "no")
    try:
        result = agents.run(code=2)
    finally:
        jenkins.broken.clear()
    assert "the hook ended with" in result.output
    assert set(before) < set(agents.hosts())
    agents.run()
    assert agents.nodes() == agents.hosts()
    assert not set(before) & set(agents.hosts())


@pytest.fixture(scope="module")
def played(controller: Controller, jenkins: Jenkins) -> Played:
    at: dict[str, Any] = {
        "controller_url": jenkins.url,
        "controller_user": USER,
        "controller_token": TOKEN,
        "fleet": "ci",
    }
    once = {**at, "launcher": "inbound", "labels": ["one"]}
    return controller.play(
        [
            task("template", "template", name="agent"),
            task("fleet", "fleet", name="ci", template="agent", count=2),
            task("dry", "jenkins_nodes", DRY, **once),
            task("made", "jenkins_nodes", {"diff": True}, **once),
            task("again", "jenkins_nodes", **once),
            task("drained", "jenkins_nodes", **at, state="drained", hosts=["ci-1"], grace="1s"),
            task("listed", "jenkins_nodes_info", **at),
            task("secret", "jenkins_nodes_info", {"no_log": True}, **at, secrets=True),
            task("absent", "jenkins_nodes", **at, state="absent", grace="1s"),
            task("absent again", "jenkins_nodes", **at, state="absent"),
            task("no credentials", "jenkins_nodes", **at),
            task("two executors", "jenkins_nodes", **once, one_build=True, executors=2),
            task("some hosts", "jenkins_nodes", **once, hosts=["ci-1"]),
            task("bad grace", "jenkins_nodes", **at, state="drained", grace="soon"),
            task("bad token", "jenkins_nodes", **{**once, "controller_token": "wrong-and-secret"}),
        ]
    )


def test_jenkins_modules_return_their_documented_results(played: Played) -> None:
    assert played["dry"]["plan"] == played["made"]["plan"]
    assert [line.split(":")[0].rpartition("-")[0] for line in played["made"]["plan"]] == [
        "create node ci-1",
        "create node ci-2",
    ]
    assert played["again"]["changed"] is False
    assert [n["labels"] for n in played["made"]["nodes"]] == [["one"], ["one"]]
    assert played["drained"]["plan"][0].startswith("drain node ci-1-")
    assert [n["held"] for n in played["listed"]["nodes"]] == [True, False]
    assert played["listed"]["skipped_objects"] == []
    assert len(played["absent"]["plan"]) == 2
    assert played["absent again"]["changed"] is False
    assert "secret" not in played["secret"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no credentials", "set the ID of the controller's SSH credentials"),
        ("two executors", "one_build requires one executor, and 2 are declared"),
        ("some hosts", "give hosts with drained or absent"),
        ("bad grace", "is not a duration"),
        ("bad token", "the controller does not allow this user to access"),
    ],
)
def test_nonsense_is_refused(played: Played, name: str, text: str) -> None:
    assert text in played[name]["msg"]
    assert "wrong-and-secret" not in json.dumps(played[name])


def test_a_pipeline_leases_a_host_for_one_build(
    controller: Controller, tmp_path: Path, played: Played
) -> None:
    """The example's step, with a stand-in for Docker's client."""
    tools = tmp_path / "bin"
    tools.mkdir()
    sdk = CHECKOUT / "plugins" / "module_utils"
    scripts = {
        "stockyard": f"#!/bin/sh\nPYTHONPATH={sdk} exec {sys.executable} -m stockyard.cli.main "
        f'"$@"\n',
        "docker": f'#!/bin/sh\necho "$DOCKER_HOST $1" >>{tmp_path}/did\n',
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {**controller.environment, "BUILD_TAG": "jenkins-app-17"}
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    text = (CHECKOUT / "examples" / "pipelines" / "Jenkinsfile.lease").read_text()
    (step,) = re.findall(r"sh '''(.*?)'''", text, re.DOTALL)
    with Yard(controller.hypervisor) as yard:
        before = {h.docker.endpoint for h in yard.hosts.list(fleet="ci")}
        result = subprocess.run(
            ["sh", "-e", "-c", step.replace("\\\n", "")],
            env=environment,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert result.returncode == 0, result.stderr
        after = {h.docker.endpoint for h in yard.hosts.list(fleet="ci")}
        assert yard.leases.list() == ()
    did = [line.split() for line in (tmp_path / "did").read_text().splitlines()]
    assert [command for _endpoint, command in did] == ["build", "run"]
    assert {endpoint for endpoint, _command in did} == before - after
    assert len(after) == 2


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ({}, True),
        ({"jenkins_agent_controller_url": "https://jenkins.example"}, False),
        ({"jenkins_agent_jar_checksum": f"sha256:{'ab' * 32}"}, False),
        ({"jenkins_agent_jar": "/srv/agent.jar"}, False),
    ],
)
def test_program_of_an_agent_that_nothing_authenticates_is_refused(
    controller: Controller, variables: dict[str, str], refused: bool
) -> None:
    role = {"name": "stockyard.container_hosts.jenkins_agent", "tasks_from": "inbound"}
    agent_variables = {
        "jenkins_agent_controller_url": "http://jenkins.example",
        "jenkins_agent_node": "web-1",
        "jenkins_agent_secret": "ab" * 32,
        **variables,
    }
    played = controller.play(
        [{"ansible.builtin.import_role": role, "vars": agent_variables}], "--check"
    )
    prefix = "stockyard.container_hosts.jenkins_agent : "
    assert not played[f"{prefix}Validate the variables of the inbound agent"].get("failed")
    result = played[f"{prefix}Check that the program of the agent is authentic"]
    assert bool(result.get("failed")) is refused
    assert not refused or "jenkins_agent_jar_checksum" in result["msg"]
