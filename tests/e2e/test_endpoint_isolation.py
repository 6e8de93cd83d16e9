# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root of the machine of a privileged container reaches nothing outside, and two tenants' endpoints
share nothing.
"""

from __future__ import annotations

import inspect
import json
import signal
import socket as sockets
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import EndpointSpec, TemplateInfo, Yard
from stockyard.model.host import DOCKER_PORT
from stockyard.resources.hosts import docker_api

from . import network_probe
from .conftest import TEMPLATE, WORK, Docker
from .test_endpoint import Client, Service, machines, wait_until_deleted
from .test_network import Listener

pytestmark = [pytest.mark.real, pytest.mark.full]
TENANTS = ("default", "other")
SSH_PORT = 2222
# The channels of a machine: the agent of stockyard, and QEMU's.
CHANNELS = {"org.stockyard.agent.0", "org.qemu.guest_agent.0"}
# Gives a container all of its machine, but for the network of an ordinary container.
EVERYTHING = ("--privileged", "--pid", "host", "--network", "host")


def free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory, template: TemplateInfo) -> list[EndpointSpec]:
    """Return the endpoints of two tenants, which differ in nothing else."""
    folder = tmp_path_factory.mktemp("tenants")
    return [
        EndpointSpec(
            "doors",
            "images",
            template.name,
            tenant,
            socket=str(folder / tenant),
            address="127.0.0.1",
            port=free_port(),
        )
        for tenant in TENANTS
    ]


@pytest.fixture(scope="module")
def clients(
    yard: Yard, specs: list[EndpointSpec], docker: Docker, busybox: bytes
) -> Iterator[list[Client]]:
    """Clients of the endpoints of two tenants."""
    # Each tenant has templates of its own.
    yard.templates.apply(replace(TEMPLATE, tenant=TENANTS[1]))
    (WORK / "docker-home").mkdir(exist_ok=True)
    with ExitStack() as stack:
        for spec in specs:
            stack.callback(yard.endpoints.delete, spec.name, spec.tenant)
            yard.endpoints.apply(spec)
            host = yard.hosts.get(spec.image_host, spec.tenant)
            docker(host, "import", "--change", 'CMD ["sh"]', "-", "busybox", stdin=busybox)
            service = Service(Path(spec.socket), spec.name, spec.tenant)
            service.start()
            stack.callback(service.end, signal.SIGTERM)
        yield [Client(docker.client, Path(spec.socket)) for spec in specs]
    yard.templates.delete(TEMPLATE.name, TENANTS[1])


@pytest.fixture(autouse=True)
def removed_containers(clients: list[Client]) -> Iterator[None]:
    yield
    for client in clients:
        if containers := client.lines("ps", "-a", "-q"):
            client("rm", "-f", *containers)


@pytest.fixture
def secret() -> Iterator[Listener]:
    """A service on the loopback of the hypervisor."""
    listener = Listener()
    yield listener
    listener.socket.close()


def as_root_of_the_machine(client: Client, script: str) -> str:
    """Run a Python program as root of the machine of the container ``attacker``."""
    command = ("exec", "-i", "attacker", "busybox", "chroot", "/proc/1/root", "python3", "-")
    return client(*command, stdin=script.encode()).stdout.decode()


def attack(client: Client, targets: list[tuple[str, int]]) -> list[list[Any]]:
    """Return the targets that answer root of a machine."""
    script = f"{inspect.getsource(network_probe)}\nmain({targets!r})\n"
    answer = json.loads(as_root_of_the_machine(client, script))
    # Else the probe would prove nothing.
    assert all(answer["control"].values()), answer
    return list(answer["reached"])


def test_root_of_a_machine_reaches_nothing_outside(
    clients: list[Client], specs: list[EndpointSpec], yard: Yard, secret: Listener
) -> None:
    port = free_port()
    web = ("sh", "-c", "mkdir /w; httpd -f -p 80 -h /w")
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(clients[0], "run", "-d", *options)
            for options in (
                ("--name", "attacker", *EVERYTHING, "busybox", "sleep", "10000"),
                ("--name", "web", "-p", f"127.0.0.1:{port}:80", "busybox", *web),
            )
        ]
        runs.append(pool.submit(clients[1], "run", "-d", "--name", "web", "busybox", *web))
        for run in runs:
            run.result()
    addresses = [
        host.address
        for host in yard.hosts.list()
        if "stockyard.endpoint" in host.labels or host.name == "images"
    ]
    assert len(addresses) == 5
    published = [secret.port, port, *(spec.port for spec in specs)]
    targets = [("10.0.2.2", number) for number in published]
    targets += [("127.0.0.1", number) for number in published]
    targets += [(address, number) for address in addresses for number in (DOCKER_PORT, SSH_PORT)]
    # The control: each of them answers on the hypervisor.
    for address, number in [target for target in targets if target[0].startswith("127.")]:
        sockets.create_connection((address, number), 10).close()
    assert attack(clients[0], targets) == []
    assert [line for line in secret.came if line] == []


def test_root_of_a_machine_has_its_own_channels_and_no_key_of_the_operator(
    clients: list[Client], yard: Yard
) -> None:
    clients[0]("run", "-d", "--name", "attacker", *EVERYTHING, "busybox", "sleep", "10000")
    (machine,) = machines(yard)
    certificate = docker_api_files(yard, "default") / "key.pem"
    secrets = [line for line in certificate.read_text().splitlines() if "-" not in line][1:4]
    # In two parts, so that the program does not find itself in the memory of the machine.
    halves = [(line[:30], line[30:]) for line in secrets]
    report = json.loads(
        as_root_of_the_machine(
            clients[0],
            f"""
import glob, json, os
def contains(path, text):
    try:
        with open(path, "rb") as file:
            return text in file.read(1 << 20)
    except OSError:
        return False
names = [open(path).read().strip() for path in glob.glob("/sys/class/virtio-ports/*/name")]
texts = [(first + second).encode() for first, second in {halves!r}]
tops = ("/etc", "/root", "/home", "/run", "/var/lib/stockyard")
files = [os.path.join(folder, name) for top in tops
         for folder, _, names_ in os.walk(top) for name in names_]
leaks = [path for path in files for text in texts
         if os.path.isfile(path) and not os.path.islink(path) and contains(path, text)]
mounts = [line.split()[2] for line in open("/proc/mounts")]
own = [path for path in files if path.endswith("tls/key.pem")]
print(json.dumps({{"channels": names, "leaks": leaks, "keys": own, "mounts": mounts}}))
""",
        )
    )
    assert set(report["channels"]) <= CHANNELS, report
    assert report["leaks"] == []
    # The control: the walk found the key of the machine.
    assert report["keys"], report
    assert not {"9p", "virtiofs", "nfs"} & set(report["mounts"])
    assert yard.hosts.get(machine).state == "running"


def docker_api_files(yard: Yard, tenant: str) -> Path:
    """Return the directory of the operator's client certificate."""
    context = yard.context
    return context.pki(tenant).client(context.today())


def test_tenants_see_nothing_of_each_other(
    clients: list[Client], specs: list[EndpointSpec], yard: Yard
) -> None:
    first, second = clients
    identifier = first.lines("run", "-d", "--name", "web", "busybox", "sleep", "1000")[0]
    first("tag", "busybox", "private:1")
    first("volume", "create", "data")
    first("network", "create", "backend")
    assert second.lines("ps", "-a", "-q") == []
    assert second.lines("volume", "ls", "-q") == []
    assert "backend" not in second.lines("network", "ls", "--format", "{{.Name}}")
    assert second.lines("images", "--format", "{{.Repository}}") == ["busybox"]
    for command in (("inspect", identifier), ("exec", identifier, "true"), ("rm", "-f", "web")):
        assert b"No such" in second(*command, check=False).stderr, command
    # The same names are free.
    second("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert len({host.tenant for host in yard.hosts.list() if host.name in machines(yard)}) == 2
    second("rm", "-f", "web")
    assert first.lines("ps", "-q", "--no-trunc") == [identifier]
    for spec in specs:
        for tenant in TENANTS:
            assert is_served(yard, spec, tenant) == (tenant == spec.tenant), (spec, tenant)
    first("rm", "-f", "web")
    first("network", "rm", "backend")
    first("volume", "rm", "data")
    first("rmi", "private:1")
    wait_until_deleted(yard)


def is_served(yard: Yard, spec: EndpointSpec, tenant: str) -> bool:
    """Return whether an endpoint answers the operator of a tenant, who trusts every server."""
    context = docker_api.tls(docker_api_files(yard, tenant))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            sockets.create_connection((spec.address, spec.port), 30) as line,
            context.wrap_socket(line, server_hostname=spec.address) as peer,
        ):
            peer.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return peer.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
