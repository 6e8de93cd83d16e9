# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of an endpoint whose image host does not trust containers."""

from __future__ import annotations

import io
import signal
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockyard import EndpointSpec, SecuritySpec, TemplateSpec, Yard

from .conftest import WORK, Docker
from .test_endpoint import DELETION, Client, Service

pytestmark = [pytest.mark.real, pytest.mark.full]
ENDPOINT, IMAGES = "strict-doors", "strict-images"
DOCKERFILE = b"""FROM busybox
RUN echo built > /built; sleep 5
"""
# Seconds until the machine of a build exists.
BUILD = 120.0


@pytest.fixture(scope="module", params=["shared", "hostile"])
def client(
    request: pytest.FixtureRequest,
    yard: Yard,
    docker: Docker,
    busybox: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    """A client of an endpoint in a profile that does not trust containers."""
    security = SecuritySpec(str(request.param))
    template = TemplateSpec(f"strict-{request.param}", security=security)
    yard.templates.apply(template)
    socket = tmp_path_factory.mktemp("strict") / "endpoint.sock"
    yard.endpoints.apply(EndpointSpec(ENDPOINT, IMAGES, template.name, socket=str(socket)))
    options = ("import", "--change", 'CMD ["sh"]', "-", "busybox")
    docker(yard.hosts.get(IMAGES), *options, stdin=busybox)
    service = Service(socket, ENDPOINT)
    service.start()
    (WORK / "docker-home").mkdir(exist_ok=True)
    yield Client(docker.client, socket)
    assert service.end(signal.SIGTERM) == 0
    yard.endpoints.delete(ENDPOINT)
    yard.templates.delete(template.name)


def machines(yard: Yard) -> set[str]:
    return {
        host.name for host in yard.hosts.list() if host.labels.get("stockyard.endpoint") == ENDPOINT
    }


def test_a_build_runs_in_a_machine_of_its_own(
    client: Client, yard: Yard, docker: Docker, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "context.tar", mode="w") as context:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(DOCKERFILE)
        context.addfile(entry, io.BytesIO(DOCKERFILE))
    host = yard.hosts.get(IMAGES)
    build = ("build", "--network", "none", "-t", "built:1", "-")
    with ThreadPoolExecutor() as pool:
        output = pool.submit(client, *build, stdin=(tmp_path / "context.tar").read_bytes())
        end = time.monotonic() + BUILD
        while not machines(yard) and not output.done():
            assert time.monotonic() < end
            time.sleep(0.2)
        if output.done():
            output.result()
        assert len(machines(yard)) == 1
        while not output.done():
            assert docker(host, "ps", "-a", "-q").stdout == b"", "a container on the image host"
            time.sleep(0.5)
        assert b"Successfully tagged built:1" in output.result().stdout
    images = docker(host, "images", "-a", "-q").stdout.split()
    assert len(images) == 2, "only the image returns"
    run = ("run", "--rm", "--network", "none", "built:1", "cat", "/built")
    assert client.lines(*run) == ["built"]
    end = time.monotonic() + DELETION
    while names := machines(yard):
        assert time.monotonic() < end, names
        time.sleep(0.2)
