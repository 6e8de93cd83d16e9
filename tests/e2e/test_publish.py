# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A published fleet, used by another machine: a second network namespace, which a pair of virtual
cards connects with that of the hypervisor.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from stockyard import TemplateInfo

from . import private_libvirt
from .conftest import Docker

pytestmark = [pytest.mark.real, pytest.mark.full]
Facts = dict[str, Any]
SCRIPT = """
import shlex, socket
from stockyard import PublishSpec
from tests.helpers.uplink_lab import inside, other_namespace

os.environ["PATH"] = f"{os.environ['CLIENT']}:{os.environ['PATH']}:/usr/sbin:/sbin"
ADDRESS, ELSEWHERE = "192.0.2.10", "192.0.2.20"
FETCH = "import urllib.request as u; print(u.urlopen('http://{}', timeout=20).read().decode())"

def connect(far_side):
    commands = f'''
        link set lo up
        link add near type veth peer name far netns {far_side}
        address add {ADDRESS}/24 dev near
        link set near up
        '''
    for line in commands.split("\\n"):
        if line.strip():
            subprocess.run(["ip", *line.split()], check=True)
    for line in (f"address add {ELSEWHERE}/24 dev far", "link set far up", "link set lo up"):
        subprocess.run(inside(far_side, "ip", *line.split()), check=True)

found = {}
with other_namespace() as far_side:
    connect(far_side)

    def elsewhere(*argv, **environment):
        line = inside(far_side, "timeout", "120", *argv)
        environment = {**os.environ, "HOME": os.environ["PRIVATE_HOME"], **environment}
        result = subprocess.run(line, env=environment, capture_output=True, text=True)
        return result.returncode, result.stdout.strip() or result.stderr.strip()[-500:]

    def reach(host):
        config = ["ssh", "-F", host.ssh.config, "-o", "BatchMode=yes"]
        page = host.published[0]
        wrapper = Path(os.environ["PRIVATE_HOME"], "bin", "ssh")
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(f'#!/bin/sh\\nexec {REAL_SSH} {shlex.join(config[1:])} "$@"\\n')
        wrapper.chmod(0o755)
        path = f"{wrapper.parent}:{os.environ['PATH']}"
        elsewhere("sh", "-c", host.docker.context)
        info = ("docker", "info", "--format", "{{.Name}}")
        return {
            "name": host.name,
            "by its name": elsewhere(*config, host.name, "hostname"),
            "printed command": elsewhere("sh", "-c", f"{host.ssh.command} hostname"),
            "Docker": elsewhere(*info, **host.docker.environment),
            "Docker's context": elsewhere("docker", "--context", host.name, *info[1:]),
            "Docker over SSH": elsewhere(*info, PATH=path, DOCKER_HOST=f"ssh://{host.name}"),
            "declared port": elsewhere(sys.executable, "-c", FETCH.format(page)),
            "own address": elsewhere("timeout", "5", "bash", "-c",
                f"</dev/tcp/{host.address}/2222")[0],
        }

    def serve(host):
        page = f"echo {host.name} >/tmp/index.html; busybox httpd -p 8080 -h /tmp"
        ssh(host, page)

    REAL_SSH = subprocess.run(
        ["sh", "-c", "command -v ssh"], capture_output=True, text=True).stdout.strip()
    taken = socket.create_server((ADDRESS, 20001))
    host_spec = HostSpec(ports=(8080,), publish=PublishSpec(ADDRESS, "20000-20009"))
    spec = FleetSpec("web", "docker", count=3, host=host_spec)
    with open_yard() as yard:
        hosts = yard.fleets.apply(spec).objects
        found["hosts"] = [host.to_dict() for host in hosts]
        for host in hosts:
            serve(host)
        found["reached"] = [reach(host) for host in hosts]
        found["unpinned"] = elsewhere("ssh", "-F", hosts[0].ssh.config, "-o", "BatchMode=yes",
            "-o", "UserKnownHostsFile=/dev/null", hosts[0].name, "hostname")
        yard.hosts.suspend(hosts[0].name)
        yard.hosts.resume(hosts[0].name)
        found["resumed"] = reach(yard.hosts.get(hosts[0].name))
        yard.hosts.restart(hosts[1].name)
        restarted = yard.hosts.get(hosts[1].name)
        serve(restarted)
        found["restarted"] = reach(restarted)
        found["again"] = yard.fleets.apply(spec).changed
        try:
            yard.fleets.apply(FleetSpec("more", "docker", host=host_spec))
        except StockyardError as error:
            found["refused"] = str(error)
        try:
            absent = HostSpec(publish=PublishSpec("198.51.100.1"))
            yard.hosts.apply(SingleSpec("one", "docker", host=absent))
        except StockyardError as error:
            found["absent address"] = str(error)
        yard.hosts.delete(hosts[2].name)
        config = Path(hosts[0].ssh.config).read_text()
        found["entries"] = [line for line in config.splitlines() if line.startswith("Host ")]
        yard.teardown()
        found["left"] = len(qemus()), Path(hosts[0].ssh.config).read_text()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def facts(
    template: TemplateInfo, docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Facts:
    """A published fleet of three, as another machine reaches it."""
    if not shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        pytest.skip("ip is not installed: run `make setup`")
    os.environ["CLIENT"] = str(docker.client.parent)
    result: Facts = private_libvirt.run(
        tmp_path_factory.mktemp("publish"), SCRIPT, own_network=True, timeout=900
    )
    return result


def test_ports_are_distinct_and_free(facts: Facts) -> None:
    ports = [
        port
        for host in facts["hosts"]
        for port in (
            host["ssh"]["port"],
            *(
                int(endpoint.rpartition(":")[2])
                for endpoint in (host["docker"]["endpoint"], *host["published"])
            ),
        )
    ]
    # A program of the test listens on port 20001.
    assert sorted(ports) == [20000, *range(20002, 20010)]
    assert not facts["again"]


def test_each_host_is_reached_by_ssh_and_docker_from_another_machine(facts: Facts) -> None:
    for reached in [*facts["reached"], facts["resumed"], facts["restarted"]]:
        name = reached["name"]
        answers = {
            key: value for key, value in reached.items() if key not in ("name", "own address")
        }
        assert answers == {key: [0, name] for key in answers}, reached
        assert reached["own address"] != 0


def test_key_that_is_not_pinned_is_refused(facts: Facts) -> None:
    assert facts["unpinned"][0] == 255
    assert "Host key verification failed" in facts["unpinned"][1]


def test_ports_and_addresses_that_are_not_available_are_refused(facts: Facts) -> None:
    assert "0 of them are free, and 3 are needed" in facts["refused"]
    assert "hosts cannot be published at 198.51.100.1" in facts["absent address"]


def test_entries_vanish_with_their_hosts(facts: Facts) -> None:
    names = [host["name"] for host in facts["hosts"]]
    assert facts["entries"] == [f"Host {name}" for name in names[:2]]
    assert facts["left"] == [0, ""]
