# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that use Docker's API use an endpoint: act, testcontainers and community.docker."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import Hardware, TemplateInfo, Yard
from tests.endpoint_suite.registry import free_port
from tests.helpers.docker_clients import DockerClients
from tests.helpers.other_collections import others

from . import endpoint_clients, test_endpoint
from .conftest import CRUN
from .endpoint_clients import IMAGE, SOCKET, WEB, Docker, run_workflow, wait_until_empty

# The fixtures of an endpoint that serves machines, and those of its clients.
client, image_host = test_endpoint.client, test_endpoint.image_host
service, socket = test_endpoint.service, test_endpoint.socket
clients, environment = endpoint_clients.clients, endpoint_clients.environment
images, client_image = endpoint_clients.images, endpoint_clients.client_image
latest = endpoint_clients.latest
pytestmark = [pytest.mark.real, pytest.mark.full]


@pytest.fixture(scope="module")
def origin(yard: Yard, template: TemplateInfo) -> TemplateInfo:
    """The template of the image host, whose forks can have the volumes of several jobs of act."""
    spec = replace(CRUN, name="volumes", hardware=Hardware(spare_ports=8))
    return yard.templates.apply(spec).object


def test_act_runs_two_jobs_at_once(
    latest: Docker, clients: DockerClients, client_image: str, tmp_path: Path
) -> None:
    run_workflow(latest, clients, client_image, tmp_path)


TESTCONTAINERS = """\
import urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy

server = DockerContainer(IMAGE).with_command(["sh", "-c", WEB]).with_exposed_ports(80)
with server.waiting_for(HttpWaitStrategy(80)):
    address = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(80)}/"
    assert urllib.request.urlopen(address).read() == b"page\\n"
    assert server.exec(["cat", "/w/index.html"]).output == b"page\\n"
with Network() as network:
    loop = "while true; do echo pong | nc -l -p 80; done"
    db = DockerContainer(IMAGE).with_command(["sh", "-c", loop])
    web = DockerContainer(IMAGE).with_command(["sleep", "1000"]).with_network(network)
    with db.with_network(network).with_network_aliases("db"), web:
        result = web.exec(["sh", "-c", "until nc db 80; do sleep 0.2; done"])
        assert result.output.endswith(b"pong\\n"), result
"""


# Removes the containers of a session when the connection of its program ends, as testcontainers'
# own image does. The program writes the label of the session.
RYUK = """\
echo "$(date) Started!"
nc -l -p 8080 < /dev/null > /label
docker rm -fv $(docker ps -aq --filter "$(tr -d '\\r' < /label)")
"""


@pytest.fixture
def python(latest: Docker, clients: DockerClients, client_image: str, tmp_path: Path) -> Docker:
    """A Python with testcontainers, whose Ryuk is an image of the endpoint."""
    (tmp_path / "ryuk").write_text(RYUK)
    (tmp_path / "Dockerfile").write_text(
        f'FROM {client_image}\nCOPY ryuk /ryuk\nCMD ["sh", "/ryuk"]\n'
    )
    latest("build", "-q", "-t", "ryuk:1", str(tmp_path))
    settings = {
        "PYTHONPATH": str(clients.packages),
        "RYUK_CONTAINER_IMAGE": "ryuk:1",
        "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    }
    return Docker((sys.executable,), latest.environment | settings)


def test_testcontainers_starts_containers(latest: Docker, python: Docker) -> None:
    python.run("-c", f"IMAGE, WEB = {IMAGE!r}, {WEB!r}\n{TESTCONTAINERS}")
    wait_until_empty(latest)


def test_testcontainers_removes_the_containers_of_a_killed_program(
    latest: Docker, python: Docker
) -> None:
    program = f"""
import os
from testcontainers.core.container import DockerContainer
DockerContainer({IMAGE!r}).with_command("sleep 1000").start()
os._exit(7)
"""
    python.run("-c", program, code=7)
    wait_until_empty(latest)


def test_a_container_with_the_socket_is_a_client_of_the_endpoint(
    latest: Docker, client_image: str
) -> None:
    latest("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
    script = f"docker ps -a --format '{{{{.Names}}}}'; echo text | docker run -i --rm {IMAGE} cat"
    output = latest("run", "--rm", "--name", "inner", *SOCKET, client_image, "sh", "-c", script)
    assert sorted(output.split("\n")) == ["inner", "text", "web"]
    # The machine's own Docker is not reached.
    refusal = latest.run("run", "-v", "/run:/run", IMAGE, code=125)
    assert "cannot be bound" in refusal


PLAYBOOK = """\
- hosts: localhost
  connection: local
  gather_facts: false
  module_defaults:
    group/community.docker.docker: {docker_host: "{{ lookup('env', 'DOCKER_HOST') }}"}
  tasks:
    - community.docker.docker_host_info: {containers: true, images: true, disk_usage: true}
    - community.docker.docker_network: {name: shop, labels: {a: b}}
    - community.docker.docker_volume: {name: data, labels: {a: b}}
    - community.docker.docker_container:
        name: web
        image: IMAGE
        pull: never
        command: [sh, -c, "WEB"]
        published_ports: ["PORT:80"]
        networks: [{name: shop, aliases: [www]}]
        volumes: ["data:/data"]
        memory: 64m
        restart_policy: on-failure
        healthcheck: {test: [CMD, "true"], interval: 1s}
    - community.docker.docker_container_copy_into:
        {container: web, content: "copied\\n", container_path: /tmp/text, mode: "0644"}
    - community.docker.docker_image: {name: IMAGE, repository: "other:1", source: local}
"""
ONCE = """\
    - ansible.builtin.uri: {url: "http://127.0.0.1:PORT/"}
      register: page
      retries: 60
      delay: 1
      until: page is success
    - community.docker.docker_container_exec: {container: web, argv: [cat], stdin: text}
      register: result
      failed_when: result.stdout != 'text'
    - community.docker.docker_container_info: {name: web}
      register: info
      failed_when: not info.container.State.Running
    - community.docker.docker_image_build: {name: built, path: CONTEXT}
    - community.docker.docker_image_export: {names: [built], path: CONTEXT/built.tar}
    - community.docker.docker_image_remove: {name: built}
    - community.docker.docker_image_load: {path: CONTEXT/built.tar}
    - community.docker.docker_image_remove: {name: built}
    - community.docker.docker_image_remove: {name: "other:1"}
    - community.docker.docker_container: {name: web, state: stopped, stop_timeout: 1}
    - community.docker.docker_container: {name: web, state: started}
    - community.docker.docker_container: {name: web, state: absent}
    - community.docker.docker_network: {name: shop, state: absent}
    - community.docker.docker_volume: {name: data, state: absent}
    - community.docker.docker_prune:
        {containers: true, images: true, networks: true, networks_filters: {until: 1h}}
"""


def test_the_modules_of_community_docker_converge(latest: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN true\n")
    values = {"IMAGE": IMAGE, "WEB": WEB, "PORT": str(free_port()), "CONTEXT": str(tmp_path)}
    pattern = re.compile("|".join(values))
    for name, text in (("converge.yml", PLAYBOOK), ("all.yml", PLAYBOOK + ONCE)):
        (tmp_path / name).write_text(pattern.sub(lambda match: values[match[0]], text))
    programs = Path(sys.executable).parent
    environment = latest.environment | {
        "PATH": f"{programs}:{os.environ['PATH']}:{latest.command[0].rpartition('/')[0]}",
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(others()),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "LC_ALL": "C.UTF-8",
    }
    ansible = Docker((str(programs / "ansible-playbook"), "-i", "localhost,"), environment)
    ansible.run(str(tmp_path / "converge.yml"))
    assert " changed=0 " in ansible.run(str(tmp_path / "converge.yml"))
    ansible.run(str(tmp_path / "all.yml"))
    assert latest("ps", "-aq") == ""
