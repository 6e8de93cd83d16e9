# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buildbot starts a machine for each build, by the commands and the configuration of
docs/endpoint-clients.md.

A server at STOCKYARD_ENDPOINT must lead 10.0.2.15:3128 of its machines to 127.0.0.1:9989.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stockyard import EndpointSpec, HostSpec, TemplateInfo, Yard
from tests.endpoint_suite.images import complete_root
from tests.helpers import buildbot
from tests.helpers.docker_clients import DockerClients

from . import endpoint_clients, test_endpoint
from .conftest import CHECKOUT
from .endpoint_clients import ADDRESS, Docker, wait_until_empty

# The fixtures of an endpoint that serves machines, and those of its clients.
client, service = test_endpoint.client, test_endpoint.service
socket, clients = test_endpoint.socket, endpoint_clients.clients
environment, images = endpoint_clients.environment, endpoint_clients.images
latest = endpoint_clients.latest
pytestmark = [pytest.mark.real, pytest.mark.full]
WORKER_IMAGE = "buildbot/buildbot-worker:v4.3.0"
BUILDS = 10
# Seconds for all builds on a busy machine.
PATIENCE = 1800.0
SUCCESS = 0


@pytest.fixture(scope="module")
def image_host(yard: Yard, crun: TemplateInfo, socket: Path) -> Iterator[str]:
    """The image host of an endpoint whose machines reach the master."""
    spec = EndpointSpec(
        test_endpoint.ENDPOINT,
        test_endpoint.IMAGES,
        crun.name,
        socket=str(socket),
        host=HostSpec(egress="proxy", egress_proxy="127.0.0.1:9989"),
    )
    yard.endpoints.apply(spec)
    yield spec.image_host
    yard.endpoints.delete(spec.name)


@pytest.fixture(scope="module")
def programs() -> buildbot.Buildbot:
    """Buildbot, fetched if it is not there."""
    return buildbot.fetch()


@pytest.fixture
def archive(programs: buildbot.Buildbot, clients: DockerClients, tmp_path: Path) -> Path:
    """An archive of the worker's image."""
    path = tmp_path / "buildbot-worker.tar"
    base = complete_root(clients.busybox, "worker")
    buildbot.save_image(programs.worker, WORKER_IMAGE, base, path)
    return path


@pytest.fixture
def master(
    programs: buildbot.Buildbot, environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """The program of the master, in its directory."""
    settings = {"PYTHONPATH": str(programs.packages), "HOME": str(tmp_path)}
    command = Docker((sys.executable, str(programs.program)), environment | settings)
    yield lambda *arguments: command.run(*arguments, cwd=tmp_path)
    if (tmp_path / "master" / "twistd.pid").exists():
        print((tmp_path / "master" / "twistd.log").read_text()[-20000:])
        command.run("stop", "--no-wait", "master", cwd=tmp_path)


@pytest.fixture
def machine_names(request: pytest.FixtureRequest) -> Callable[[], list[str]]:
    """Return the machines that exist; none if others serve the endpoint."""
    if os.environ.get(ADDRESS):
        return list
    yard = request.getfixturevalue("yard")
    return lambda: test_endpoint.machines(yard)


@contextmanager
def observed(machine_names: Callable[[], list[str]]) -> Iterator[set[str]]:
    """Collect the names of all machines that exist during the block."""
    names: set[str] = set()
    ended = threading.Event()

    def observe() -> None:
        while not ended.wait(1):
            names.update(machine_names())

    with ThreadPoolExecutor() as pool:
        observer = pool.submit(observe)
        try:
            yield names
        finally:
            ended.set()
        observer.result()


def results(folder: Path) -> list[int]:
    """Return the results of all builds that have ended."""
    with closing(sqlite3.connect(folder / "state.sqlite", timeout=60)) as database:
        rows = database.execute("SELECT results FROM builds WHERE complete_at IS NOT NULL")
        return [int(row[0]) for row in rows]


def test_each_build_of_buildbot_has_a_machine(
    latest: Docker,
    archive: Path,
    master: Callable[..., str],
    machine_names: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    latest("load", "-i", str(archive))
    begin = str(int(time.time()))
    master("create-master", "master")
    shutil.copy(CHECKOUT / "examples" / "buildbot" / "master.cfg", tmp_path / "master")
    master("start", "--start_timeout", "120", "master")
    change = ("sendchange", "--master", "127.0.0.1:9989", "--auth", "change:changepw")
    with observed(machine_names) as machines:
        for number in range(BUILDS):
            master(*change, "--who", "me", "--revision", str(number), "README.md")
        end = time.monotonic() + PATIENCE
        while len(ended := results(tmp_path / "master")) < BUILDS:
            assert time.monotonic() < end, (ended, latest("ps", "-a"))
            time.sleep(1)
    assert ended == [SUCCESS] * BUILDS
    wait_until_empty(latest)
    master("stop", "--clean", "master")
    until = str(int(time.time()) + 1)
    filters = ("--filter", "event=create", "--filter", "event=destroy")
    events = latest("events", "--since", begin, "--until", until, *filters, "--format", "{{.ID}}")
    containers = events.split("\n")
    assert len(containers) == 2 * BUILDS
    assert len(set(containers)) == BUILDS
    if machines:
        assert len(machines) == BUILDS
        end = time.monotonic() + test_endpoint.DELETION
        while names := machine_names():
            assert time.monotonic() < end, names
            time.sleep(0.5)
