# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents on real guests: set up by the role, started over SSH with Java as a controller does it, or
as a unit.

The controller is a stand-in, see tests/jenkins: its REST side is made up, what it does over SSH is
real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from stockyard import HostInfo, Yard
from tests.jenkins.controller import TOKEN, USER, Jenkins, serving

from .conftest import CHECKOUT, OWNER, WORK, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
JAVA = "openjdk-17-jre-headless"
PATIENCE = 900
UNIT = "jenkins-agent.service"
# Stands in for Java where there is no agent to run: it says what it was given, and what it may
# read.
SHIM = """#!/bin/sh
for word; do case $word in @*) cat "${word#@}" >"$HOME/proof";; esac; done
exec sleep 3600
"""


class Launcher:
    """The steps of the controller's SSH launcher: log in with its key, check the pinned host key,
    run Java.
    """

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.said: dict[str, str] = {}
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    @property
    def public(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    def __call__(self, node: Element) -> bool:
        """Whether Java runs in the host."""
        result = self.run(node, "exec", node.findtext("launcher/javaPath") or "java", "-version")
        self.said[node.findtext("name") or ""] = result.stdout + result.stderr
        return result.returncode == 0

    def line(self, node: Element) -> list[str]:
        """The line that logs in."""
        launcher = {e.tag: e.text or "" for e in node.findall("launcher/*")}
        pinned = [
            node.findtext(f"launcher/sshHostKeyVerificationStrategy/key/{p}") or ""
            for p in ("algorithm", "key")
        ]
        known = self.folder / f"known-{node.findtext('name')}"
        known.write_text(f"[{launcher['host']}]:{launcher['port']} {' '.join(pinned)}\n")
        options = {
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "30",
        }
        flags = [f"-o{key}={value}" for key, value in options.items()]
        return [
            "ssh",
            "-F",
            "/dev/null",
            *flags,
            "-i",
            str(self.key),
            "-p",
            launcher["port"],
            "--",
            f"jenkins@{launcher['host']}",
        ]

    def run(self, node: Element, *command: str) -> subprocess.CompletedProcess[str]:
        line = [*self.line(node), "cd /var/lib/jenkins &&", *command]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=180, check=False, stdin=subprocess.DEVNULL
        )

    def build(self, node: Element) -> subprocess.Popen[bytes]:
        """Something that goes on for a while in the work directory."""
        shell = (
            "cd /var/lib/jenkins && mkdir -p workspace/job && touch workspace/job/file && "
            "exec sleep 3600"
        )
        self.processes.append(subprocess.Popen([*self.line(node), shell], stdin=subprocess.DEVNULL))
        return self.processes[-1]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    ssh_launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield ssh_launcher
    ssh_launcher.close()


@pytest.fixture(scope="module")
def jenkins(launcher: Launcher) -> Iterator[Jenkins]:
    with serving() as server:
        server.launch = launcher
        yield server


@pytest.fixture(scope="module")
def lively(yard: Yard, jenkins: Jenkins, launcher: Launcher) -> Iterator[Yard]:
    """A yard with three agents, made by the playbook."""
    play(jenkins, launcher)
    yield yard
    yard.fleets.delete("agents")


def play(jenkins: Jenkins, launcher: Launcher, **declared: Any) -> str:
    """Run the playbook as a user does."""
    declaration = {
        "yard_owner": OWNER,
        "yard_storage": str(WORK / "store"),
        "yard_pki_dir": str(WORK / "pki"),
        "yard_templates": [{"name": "agent", "packages": [JAVA, "busybox-static"]}],
        "yard_fleets": [{"name": "agents", "template": "agent", "count": 3}],
        "jenkins_url": jenkins.url,
        "jenkins_user": USER,
        "jenkins_token": TOKEN,
        "jenkins_fleet": "agents",
        "jenkins_labels": ["docker"],
        "jenkins_credentials_id": "key",
        "jenkins_public_keys": [launcher.public],
        "jenkins_grace": "2s",
        **declared,
    }
    path = WORK / "jenkins.yml"
    WORK.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(declaration))
    begin = time.monotonic()
    line = [f"{CHECKOUT}/hack/playbook.sh", "jenkins_agents", "-e", f"yard={path}"]
    environment = {**os.environ, "ANSIBLE_PIPELINING": "True", "ANSIBLE_TIMEOUT": "60"}
    result = subprocess.run(
        line, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    path.unlink()
    print(f"the playbook took {time.monotonic() - begin:.0f} s")
    assert result.returncode == 0, result.stdout + result.stderr
    assert TOKEN not in result.stdout + result.stderr
    return result.stdout


def nodes(yard: Yard) -> dict[str, HostInfo]:
    """Return the fleet's hosts by the expected names of their nodes."""
    return {f"{h.name}-{h.uuid[:8]}": h for h in yard.hosts.list(fleet="agents")}


def online(jenkins: Jenkins, patience: float = 180) -> list[str]:
    """The nodes that are online, when all are or the time is up."""
    end = time.monotonic() + patience
    while time.monotonic() < end and not all(c.connected for c in jenkins.computers.values()):
        time.sleep(0.5)
    return sorted(name for name, c in jenkins.computers.items() if c.connected)


def test_three_agents_are_started_over_ssh(
    lively: Yard, jenkins: Jenkins, launcher: Launcher
) -> None:
    expected = nodes(lively)
    assert online(jenkins) == sorted(expected) == jenkins.names()
    assert len(expected) == 3
    assert all("openjdk version" in version for version in launcher.said.values())
    node, host = next(iter(jenkins.computers.values())), next(iter(expected.values()))
    assert launcher.run(node.xml, "id", "-un").stdout.strip() == "jenkins"
    assert (
        launcher.run(node.xml, "docker", "info", "--format", "{{.Name}}")
        .stdout.strip()
        .startswith("agents-")
    )
    # Builds cannot become root or open the host, and the operator still has access.
    assert launcher.run(node.xml, "sudo", "-n", "true").returncode != 0
    assert launcher.run(node.xml, "touch", "/etc/ssh/jenkins_agent_authorized_keys").returncode != 0
    assert ssh(host, "id", "-un").stdout.strip() == host.ssh.user


def test_one_is_rebuilt_while_another_builds(
    lively: Yard, jenkins: Jenkins, launcher: Launcher
) -> None:
    assert len(online(jenkins)) == 3
    build = jenkins.build("docker")
    running = launcher.build(jenkins.computers[build.node].xml)
    before = nodes(lively)
    idle_node = next(name for name in before if name != build.node)
    play(jenkins, launcher, jenkins_rebuild=[before[idle_node].name])
    after = nodes(lively)
    assert set(before) - set(after) == {idle_node}
    assert online(jenkins) == sorted(after) == jenkins.names()
    assert running.poll() is None
    assert jenkins.computers[build.node].builds == [build]
    running.kill()
    jenkins.finish(build)


def test_real_jenkins_agent_identifies_itself(
    lively: Yard, jenkins: Jenkins, launcher: Launcher, tmp_path: Path
) -> None:
    """The ancestor of Jenkins' own program, which Maven Central has; Jenkins' is only in a registry
    of its own.
    """
    jar = remoting(tmp_path)
    assert online(jenkins)
    node = next(iter(jenkins.computers.values()))
    result = subprocess.run(
        [
            *launcher.line(node.xml),
            "cd /var/lib/jenkins && cat >agent.jar && exec java -jar agent.jar </dev/null",
        ],
        input=jar.read_bytes(),
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert result.stdout.startswith(b"<===[HUDSON REMOTING CAPACITY]===>"), result.stderr


def remoting(folder: Path) -> Path:
    """The program of an agent, over Maven."""
    maven = shutil.which("mvn")
    if not maven:
        pytest.skip("Maven is not installed: it fetches the agent")
    artifact = "-Dartifact=org.eclipse.hudson:hudson-remoting:3.0.3"
    line = [
        maven,
        "-q",
        "-B",
        f"-Dmaven.repo.local={WORK / 'maven'}",
        "dependency:get",
        artifact,
        "-Dtransitive=false",
    ]
    subprocess.run(line, check=True, timeout=300, cwd=folder, stdin=subprocess.DEVNULL)
    return next((WORK / "maven" / "org" / "eclipse").rglob("hudson-remoting-3.0.3.jar"))


def test_an_inbound_agent_is_a_unit_whose_secret_is_roots(
    lively: Yard, jenkins: Jenkins, tmp_path: Path
) -> None:
    name, host = next(iter(nodes(lively).items()))
    secret = jenkins.secret(name)
    jar = tmp_path / "agent.jar"
    jar.write_bytes(b"no agent")
    ssh(
        host,
        "sudo tee /usr/local/bin/java >/dev/null && sudo chmod 755 /usr/local/bin/java",
        stdin=SHIM,
    )
    role(
        host,
        tmp_path,
        jenkins_agent_node=name,
        jenkins_agent_secret=secret,
        jenkins_agent_jar=str(jar),
    )
    assert ssh(host, f"systemctl is-active {UNIT}").stdout.strip() == "active"
    assert (
        secret
        not in ssh(host, f"ps -ef; systemctl show {UNIT}; cat /etc/systemd/system/{UNIT}").stdout
    )
    assert ssh(host, "sudo stat -c '%a %U' /etc/jenkins-agent/secret").stdout.strip() == "600 root"
    assert ssh(host, "cat /etc/jenkins-agent/secret").returncode != 0
    assert ssh(host, "sudo cat /var/lib/jenkins/proof").stdout == secret
    assert f"-name {name} -secret @" in ssh(host, f"systemctl show -p ExecStart {UNIT}").stdout
    second_run = role(
        host,
        tmp_path,
        jenkins_agent_node=name,
        jenkins_agent_secret=secret,
        jenkins_agent_jar=str(jar),
    )
    assert "changed=0 " in second_run
    # A host for one build that had it stays away.
    ssh(host, "sudo install -d -o jenkins /var/lib/jenkins/workspace/job")
    role(
        host,
        tmp_path,
        jenkins_agent_node=name,
        jenkins_agent_secret=secret,
        jenkins_agent_jar=str(jar),
        jenkins_agent_one_build=True,
    )
    assert ssh(host, f"systemctl is-active {UNIT}").stdout.strip() == "inactive"


def role(host: HostInfo, folder: Path, **declared: Any) -> str:
    """Run the role on one host, as an agent that connects."""
    way = host.ssh
    known_hosts = f"-o UserKnownHostsFile={way.known_hosts}"
    options = f"-o StrictHostKeyChecking=yes {known_hosts} -o IdentitiesOnly=yes"
    inventory = {
        "ansible_host": way.host,
        "ansible_port": way.port,
        "ansible_user": way.user,
        "ansible_ssh_private_key_file": way.private_key,
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    settings = {
        "jenkins_agent_launcher": "inbound",
        "jenkins_agent_java": "/usr/local/bin/java",
        "jenkins_agent_controller_url": "https://jenkins.example.com/",
        **declared,
    }
    collection = folder / "collections" / "ansible_collections" / "stockyard" / "container_hosts"
    if not collection.exists():
        collection.parent.mkdir(parents=True)
        collection.symlink_to(CHECKOUT)
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {host.name: inventory}}}))
    roles = [{"role": "stockyard.container_hosts.jenkins_agent", **settings}]
    play = {"hosts": "all", "gather_facts": False, "become": True, "roles": roles}
    (folder / "role.yml").write_text(json.dumps([play]))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_TIMEOUT": "60",
    }
    line = ["ansible-playbook", "-i", f"{folder}/hosts.json", f"{folder}/role.yml"]
    result = subprocess.run(
        line, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert declared["jenkins_agent_secret"] not in result.stdout + result.stderr
    return result.stdout
