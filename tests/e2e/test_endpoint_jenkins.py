# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of Jenkins' Docker cloud reach an endpoint, through the libraries of its plugin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import docker_java

from . import endpoint_clients, test_endpoint
from .endpoint_clients import IMAGE, Docker, wait_until_empty

# The fixtures of an endpoint that serves machines, and those of its clients.
client, image_host = test_endpoint.client, test_endpoint.image_host
service, socket = test_endpoint.service, test_endpoint.socket
clients, environment = endpoint_clients.clients, endpoint_clients.environment
images, latest = endpoint_clients.images, endpoint_clients.latest
origin = endpoint_clients.origin
pytestmark = [pytest.mark.real, pytest.mark.full]
AGENTS = 2
# Answers as an agent does that sends back all input.
AGENT = """\
#!/bin/sh
test "$1 $2" = "-jar /home/jenkins/agent.jar" || exit 1
cat "$2"
exec cat
"""
CONTAINER_FILE = f"""\
FROM {IMAGE}
COPY java /bin/java
RUN mkdir -p /home/jenkins
WORKDIR /home/jenkins
"""


@pytest.fixture(scope="module")
def libraries() -> Path:
    """The libraries of the plugin, fetched if they are not there."""
    if not shutil.which("mvn"):
        pytest.skip("Maven is not installed")
    return docker_java.fetch()


def test_the_docker_cloud_of_jenkins_runs_agents(
    latest: Docker, libraries: Path, tmp_path: Path
) -> None:
    (tmp_path / "java").write_text(AGENT)
    (tmp_path / "java").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(CONTAINER_FILE)
    (tmp_path / "agent.jar").write_text("agent ready\n")
    latest.run("build", "-q", "-t", "agent:1", str(tmp_path), DOCKER_BUILDKIT="0")
    java = Docker(("java", "-cp", f"{libraries}/*"), latest.environment)
    arguments = ("agent:1", str(tmp_path / "agent.jar"), str(AGENTS))
    output = java.run(str(docker_java.PROGRAM), latest.environment["DOCKER_HOST"], *arguments)
    assert output.count("removed docker-") == AGENTS
    wait_until_empty(latest)
    latest("rmi", "agent:1")
