# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint with spares is killed again and again, and has many machines."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.real import private_mib
from stockyard import EndpointSpec, TemplateInfo, Yard
from stockyard.model.container_machine import CONTAINER_ID, FACTS_PREFIX

from .conftest import WORK, Docker
from .test_endpoint import Client, Service, machines, status_of
from .test_recovery import pid_of

pytestmark = [pytest.mark.real, pytest.mark.full]
ENDPOINT, IMAGES = "tough", "tough-images"
KILLS, MANY = 20, 30
# The longest time from the start of a run to a kill, in seconds: some runs have ended by then.
LONGEST_DELAY = 4.0
# Seconds for the endpoint to find a killed machine, to create a container, and to delete many
# machines; and until new machines are idle.
NOTICE, FORK, CHANGE, IDLE = 30.0, 60.0, 180.0, 20.0
LARGEST_IDLE = 45.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tough") / "endpoint.sock"


@pytest.fixture(scope="module")
def service(
    yard: Yard, crun: TemplateInfo, docker: Docker, busybox: bytes, address: Path
) -> Iterator[Service]:
    """The service of an endpoint with one spare."""
    yard.endpoints.apply(EndpointSpec(ENDPOINT, IMAGES, crun.name, socket=str(address), spares=1))
    host = yard.hosts.get(IMAGES)
    docker(host, "import", "--change", 'CMD ["sh"]', "-", "busybox", stdin=busybox)
    service = Service(address, ENDPOINT)
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0
    # SIGTERM deletes the spares.
    assert machines(yard) == []
    yard.endpoints.delete(ENDPOINT)


@pytest.fixture(scope="module")
def client(service: Service, docker: Docker) -> Client:
    (WORK / "docker-home").mkdir(exist_ok=True)
    return Client(docker.client, service.socket)


@pytest.fixture(autouse=True)
def removed_containers(client: Client) -> Iterator[None]:
    yield
    if containers := client.lines("ps", "-a", "-q"):
        client("rm", "-f", *containers)


def spares(yard: Yard) -> list[str]:
    """Return the names of the complete machines in which no container was created."""
    label = f"{FACTS_PREFIX}{CONTAINER_ID}"
    return [
        host.name
        for host in yard.hosts.list()
        if "stockyard.endpoint" in host.labels and label not in host.labels and host.ready
    ]


def wait_for_machines(yard: Yard, count: int) -> list[str]:
    """Wait until there are as many machines, spares included, and return their names."""
    end = time.monotonic() + CHANGE
    while len(names := machines(yard)) != count or len(spares(yard)) != 1:
        assert time.monotonic() < end, names
        time.sleep(0.2)
    return names


def files_of_hosts() -> set[str]:
    """Return the names of the directories of hosts in the storage."""
    return {path.name for path in (WORK / "store" / "hosts").iterdir()}


def test_a_killed_spare_is_replaced(client: Client, yard: Yard) -> None:
    (spare,) = wait_for_machines(yard, 1)
    os.kill(pid_of(yard.hosts.get(spare).uuid), signal.SIGKILL)
    run = ("run", "--rm", "--network", "none", "busybox", "echo", "hi")
    assert client.lines(*run) == ["hi"]
    end = time.monotonic() + FORK
    while spare in machines(yard):
        assert time.monotonic() < end
        time.sleep(0.2)
    wait_for_machines(yard, 1)


def test_a_machine_that_is_killed_during_a_run_shows_its_end(client: Client, yard: Yard) -> None:
    run = ("run", "--name", "victim", "--network", "none", "busybox", "sleep", "1000")
    with client.start(*run) as process:
        end = time.monotonic() + FORK
        while not client.lines("ps", "-q", "--filter", "name=victim"):
            assert time.monotonic() < end
            time.sleep(0.2)
        (machine,) = set(machines(yard)) - set(spares(yard))
        os.kill(pid_of(yard.hosts.get(machine).uuid), signal.SIGKILL)
        assert process.wait(NOTICE) != 0
    assert status_of(client, "victim") == "exited 137"
    client("rm", "victim")
    wait_for_machines(yard, 1)


def test_an_endpoint_that_is_killed_twenty_times_leaves_nothing(
    client: Client, service: Service, yard: Yard
) -> None:
    client("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "1000")
    end = ("sh", "-c", "exit 1")
    client("run", "--name", "job", "--network", "none", "busybox", *end, check=False)
    for number in range(KILLS):
        name = f"run-{number}"
        run = ("run", "--name", name, "--network", "none", "busybox", "sh", "-c", "exit 3")
        with client.start(*run) as process:
            time.sleep(0.2 + number * LONGEST_DELAY / KILLS)
            service.end(signal.SIGKILL)
            process.wait(60)
        service.start()
        assert status_of(client, "web") == "running 0"
        assert status_of(client, "job") == "exited 1"
        # The container does not exist, was not started, or ends with its own code.
        if client.lines("ps", "-a", "-q", "--filter", f"name={name}"):
            if client.lines("inspect", "--format", "{{.State.Status}}", name) != ["created"]:
                assert client.lines("wait", name) == ["3"]
            client("rm", "-f", name)
    client("rm", "-f", *client.lines("ps", "-a", "-q"))
    # The endpoint deletes the remains of the kills; a reaper finds nothing.
    wait_for_machines(yard, 1)
    reaped = yard.reap(grace=600.0)
    assert [action.name for action in reaped.plan.actions] == []
    records = {host.uuid for host in yard.hosts.list()}
    assert files_of_hosts() <= records


def seconds_of_a_list(client: Client) -> float:
    """Return the duration of ``ps``, which lists all containers."""
    begin = time.monotonic()
    assert len(client.lines("ps", "-q")) == MANY
    return time.monotonic() - begin


def test_thirty_machines_are_small_and_leave_nothing(
    client: Client, service: Service, yard: Yard
) -> None:
    before = {host.uuid for host in yard.hosts.list() if host.name not in machines(yard)}
    begin = time.monotonic()
    for number in range(MANY):
        publish = () if number else ("-p", "80")
        client("run", "-d", "--name", f"many-{number}", *publish, "busybox", "sleep", "100000")
    print(f"{MANY} containers: {time.monotonic() - begin:.0f} s")
    time.sleep(IDLE)
    hosts = [host for host in yard.hosts.list() if host.name in machines(yard)]
    sizes = sorted(private_mib(yard, host) for host in hosts)
    print(f"private memory: {sizes[0]:.1f} to {sizes[-1]:.1f} MiB")
    lists = sorted(seconds_of_a_list(client) for _number in range(5))
    print(f"ps, with the start of the client: {lists[0]:.2f} to {lists[-1]:.2f} s")
    port = int(client.lines("port", "many-0", "80")[0].rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), 10).close()
    client("rm", "-f", *client.lines("ps", "-a", "-q"))
    wait_for_machines(yard, 1)
    assert service.end(signal.SIGTERM) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 10)
    # Neither a domain, nor a file, a port or a record.
    assert {host.uuid for host in yard.hosts.list()} == before
    assert files_of_hosts() <= before
    assert [action.name for action in yard.reap(grace=0.0).plan.actions] == []
    service.start()
    assert sizes[len(sizes) // 2] <= LARGEST_IDLE, sizes
    wait_for_machines(yard, 1)
