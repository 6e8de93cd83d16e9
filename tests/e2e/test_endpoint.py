# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's own client uses an endpoint: each of its containers is a virtual machine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stockyard import EndpointSpec, TemplateInfo, Yard
from tests.endpoint_suite import short
from tests.endpoint_suite.images import complete_root
from tests.endpoint_suite.suite import Suite
from tests.helpers import docker_clients
from tests.helpers.values import present

from .conftest import OWNER, WORK, Docker
from .test_recovery import pid_of

pytestmark = pytest.mark.real
IMAGES, ENDPOINT = "images", "doors"
# Seconds after which the endpoint is killed while a container is created, started and removed.
KILLS = (0.5, 1.2, 2.0, 4.0)
# Seconds in which deleted machines are gone, and in which a quiet machine is suspended.
DELETION, SUSPENSION = 60.0, 240.0


@dataclass(frozen=True)
class Client:
    """Docker's client against the endpoint."""

    program: Path
    socket: Path

    def __call__(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            [self.program, *arguments],
            input=stdin,
            env=self._environment(),
            capture_output=True,
            timeout=300,
            check=False,
        )
        if check:
            assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result

    def lines(self, *arguments: str) -> list[str]:
        """Return the lines of the output."""
        return self(*arguments).stdout.decode().split("\n")[:-1]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the client, and return its process."""
        quiet = subprocess.DEVNULL
        command = [str(self.program), *arguments]
        return subprocess.Popen(command, env=self._environment(), stdout=quiet, stderr=quiet)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(WORK / "docker-home"),
            "DOCKER_BUILDKIT": "0",
            "DOCKER_HOST": f"unix://{self.socket}",
        }


class Service:
    """The process that serves an endpoint."""

    def __init__(self, socket: Path, name: str = ENDPOINT, tenant: str = "default") -> None:
        self.socket = socket
        self.name = name
        self.tenant = tenant
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and wait until it serves."""
        self.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "stockyard.cli.main", "endpoint", "serve"]
        command += ["--name", self.name, "--tenant", self.tenant]
        command += ["--owner", OWNER, "--hypervisor", "qemu:///session"]
        command += ["--storage", str(WORK / "store"), "--pki-dir", str(WORK / "pki")]
        with (WORK / "endpoint.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        end = time.monotonic() + 60
        while not self.socket.exists():
            assert self.process.poll() is None, (WORK / "endpoint.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the process, and return its exit code."""
        process = present(self.process)
        process.send_signal(number)
        return process.wait(60)


def machines(yard: Yard) -> list[str]:
    """Return the names of the container machines."""
    return [host.name for host in yard.hosts.list() if "stockyard.endpoint" in host.labels]


def wait_for_state(yard: Yard, name: str, state: str) -> None:
    """Wait until a container machine has a state."""
    end = time.monotonic() + SUSPENSION
    while (present := yard.hosts.get(name).state) != state:
        assert time.monotonic() < end, present
        time.sleep(1)


def wait_until_deleted(yard: Yard) -> None:
    """Wait until no container machine exists."""
    end = time.monotonic() + DELETION
    while names := machines(yard):
        assert time.monotonic() < end, names
        time.sleep(0.2)


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The path of a socket has at most 107 characters, and the checkout can be deep.
    return tmp_path_factory.mktemp("endpoint") / "endpoint.sock"


@pytest.fixture(scope="module")
def origin(template: TemplateInfo) -> TemplateInfo:
    """The template of the image host."""
    return template


@pytest.fixture(scope="module")
def image_host(
    yard: Yard, origin: TemplateInfo, docker: Docker, busybox: bytes, socket: Path
) -> Iterator[str]:
    spec = EndpointSpec(ENDPOINT, IMAGES, origin.name, socket=str(socket))
    yard.endpoints.apply(replace(spec, socket_in_containers=True))
    docker(
        yard.hosts.get(IMAGES), "import", "--change", 'CMD ["sh"]', "-", "busybox", stdin=busybox
    )
    yield IMAGES
    yard.endpoints.delete(ENDPOINT)
    assert IMAGES not in [host.name for host in yard.hosts.list()]


@pytest.fixture(scope="module")
def service(yard: Yard, image_host: str, socket: Path) -> Iterator[Service]:
    service = Service(socket)
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0


@pytest.fixture(scope="module")
def client(service: Service, docker: Docker) -> Client:
    (WORK / "docker-home").mkdir(exist_ok=True)
    return Client(docker.client, service.socket)


@pytest.fixture(scope="module")
def docker_py(client: Client, docker: Docker) -> Suite:
    """The tests of docker-py, with their image in the image host."""
    client("import", "-", short.IMAGE, stdin=complete_root(docker.busybox, short.IMAGE))
    return short.prepare()


@pytest.fixture(autouse=True)
def removed_containers(client: Client) -> Iterator[None]:
    """Remove the containers that a failed test left, so that no other test meets them."""
    yield
    if containers := client.lines("ps", "-a", "-q"):
        client("rm", "-f", *containers)


def test_a_container_runs_in_a_machine_of_its_own(client: Client, yard: Yard) -> None:
    begin = time.monotonic()
    result = client("run", "--rm", "--network", "none", "busybox", "echo", "hi")
    print(f"first run: {time.monotonic() - begin:.1f} s")
    assert result.stdout == b"hi\n"
    begin = time.monotonic()
    result = client("run", "--rm", "-i", "--network", "none", "busybox", "cat", stdin=b"in" * 99999)
    print(f"second run: {time.monotonic() - begin:.1f} s")
    assert result.stdout == b"in" * 99999
    wait_until_deleted(yard)


def test_a_container_is_used_as_with_docker(client: Client, yard: Yard) -> None:
    identifier = client.lines("run", "-d", "--name", "web", "busybox", "sleep", "1000")[0]
    assert len(machines(yard)) == 1
    assert client("exec", "-i", "web", "cat", stdin=b"text").stdout == b"text"
    refusal = client("run", "--name", "web", "busybox", check=False)
    assert f'already in use by container "{identifier}"'.encode() in refusal.stderr
    assert client.lines("ps", "--format", "{{.Names}} {{.Image}}") == ["web busybox"]
    client("commit", "web", "saved:1")
    assert client.lines("run", "--rm", "saved:1", "echo", "again") == ["again"]
    client("rm", "-f", "web")
    missing = client("logs", "web", check=False)
    assert b"No such container: web" in missing.stderr
    wait_until_deleted(yard)


def test_an_image_that_was_built_is_run(client: Client, yard: Yard) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as context:
        text = b"FROM busybox\nRUN echo built > /built\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        context.addfile(entry, io.BytesIO(text))
    client("build", "--network", "none", "-t", "built:1", "-", stdin=buffer.getvalue())
    run = ("run", "--rm", "--network", "none", "built:1")
    assert client.lines(*run, "cat", "/built") == ["built"]
    client("image", "rm", "built:1")
    wait_until_deleted(yard)


def test_a_killed_endpoint_serves_its_containers_again(
    client: Client, service: Service, yard: Yard
) -> None:
    client("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "1000")
    for delay in KILLS:
        with client.start("run", "--rm", "--network", "none", "busybox", "true") as run:
            time.sleep(delay)
            service.end(signal.SIGKILL)
            run.wait(60)
        service.start()
        assert "web" in client.lines("ps", "--format", "{{.Names}}")
        assert client("exec", "web", "echo", "hi").stdout == b"hi\n"
    # A container that was created before a kill, and never started.
    client("rm", "-f", *client.lines("ps", "-a", "-q"))
    wait_until_deleted(yard)


def test_a_killed_machine_ends_its_container(client: Client, yard: Yard) -> None:
    client("run", "-d", "--rm", "--name", "job", "--network", "none", "busybox", "sleep", "1000")
    (machine,) = machines(yard)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.lines, "wait", "job")
        # Until the endpoint has the call: later it would have no such container.
        time.sleep(5)
        os.kill(pid_of(yard.hosts.get(machine).uuid), signal.SIGKILL)
        assert waiting.result(60) == ["137"]
    wait_until_deleted(yard)


@pytest.mark.parametrize("file", sorted(short.SHORT_TESTS))
def test_docker_py_passes_its_tests(
    file: str, client: Client, docker_py: Suite, tmp_path: Path, yard: Yard
) -> None:
    assert short.failures(docker_py, file, f"unix://{client.socket}", tmp_path) == {}
    wait_until_deleted(yard)


COMPOSE = f"""\
services:
  db:
    image: {short.IMAGE}
    command: sh -c 'echo row > /data/row; exec httpd -f -p 80 -h /data'
    volumes: ["data:/data"]
  web:
    image: {short.IMAGE}
    command: sleep 1000
    depends_on: [db]
volumes: {{data: {{}}}}
"""


def test_compose_runs_services_in_one_machine(
    client: Client, docker_py: Suite, tmp_path: Path, yard: Yard
) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)
    compose = replace(client, program=docker_clients.compose())
    project = ("-p", "shop", "-f", str(file))
    compose(*project, "up", "-d")
    assert len(machines(yard)) == 1
    fetch = "until wget -qO- http://db/row; do sleep 0.5; done"
    assert compose.lines(*project, "exec", "-T", "web", "sh", "-c", fetch) == ["row"]
    compose(*project, "down", "-v", "-t", "0")
    assert client.lines("volume", "ls", "-q") == []
    assert "shop_default" not in client.lines("network", "ls", "--format", "{{.Name}}")
    wait_until_deleted(yard)


@pytest.mark.full
def test_a_named_volume_outlives_the_machines(client: Client, yard: Yard) -> None:
    write, read = "echo one >> /data/text", "cat /data/text"
    client("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", write)
    wait_until_deleted(yard)
    run = ("run", "--rm", "--mount", "type=volume,source=data,target=/data", "busybox")
    assert client.lines(*run, "sh", "-c", read) == ["one"]
    client("run", "-d", "--name", "first", "-v", "data:/data", "busybox", "sleep", "1000")
    # A running container has the volume, so this one joins its machine.
    client("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", write)
    assert client("exec", "first", "cat", "/data/text").stdout == b"one\none\n"
    assert len(machines(yard)) == 1
    refusal = client("volume", "rm", "data", check=False)
    assert b"volume is in use" in refusal.stderr
    client("stop", "-t", "0", "first")
    client("run", "-d", "--name", "second", "-v", "data:/data", "busybox", "sleep", "1000")
    assert len(machines(yard)) == 2
    refusal = client("start", "first", check=False)
    assert b"is used by a container in another machine" in refusal.stderr
    client("stop", "-t", "0", "second")
    client("start", "first")
    assert client("exec", "first", "cat", "/data/text").stdout == b"one\none\n"
    client("rm", "-f", "first", "second")
    assert client.lines("volume", "ls", "-q") == ["data"]
    client("volume", "rm", "data")
    wait_until_deleted(yard)
    assert yard.volumes.list() == ()


@pytest.mark.full
def test_a_new_volume_is_filled_from_the_image(client: Client, yard: Yard) -> None:
    client("run", "--name", "draft", "busybox", "sh", "-c", "mkdir /filled; echo x > /filled/y")
    client("commit", "draft", "filled:1")
    client("rm", "draft")
    run = ("run", "--rm", "-v", "new:/filled", "filled:1")
    assert client.lines(*run, "sh", "-c", "echo /filled/*") == ["/filled/y"]
    client("volume", "rm", "new")
    client("image", "rm", "filled:1")
    wait_until_deleted(yard)


@pytest.mark.full
def test_ports_of_containers_in_one_machine_are_published(client: Client, yard: Yard) -> None:
    client("network", "create", "backend")
    ports = {}
    for name in ("web", "api"):
        command = ("sh", "-c", f"mkdir /w; echo {name} > /w/index.html; httpd -f -p 80 -h /w")
        options = ("--name", name, "--network", "backend", "-p", "80")
        client("run", "-d", *options, "busybox", *command)
        ports[name] = client.lines("port", name, "80")[0].rpartition(":")[2]
    assert len(machines(yard)) == 1
    for name, port in ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.read().decode().strip() == name
    client("rm", "-f", "web", "api")
    client("network", "rm", "backend")
    wait_until_deleted(yard)


@pytest.mark.full
def test_several_containers_start_at_once(client: Client, yard: Yard) -> None:
    def run(number: int) -> list[str]:
        return client.lines("run", "--rm", "--network", "none", "busybox", "echo", str(number))

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(run, range(4))) == [[str(number)] for number in range(4)]
    wait_until_deleted(yard)


def status_of(client: Client, name: str) -> str:
    (facts,) = json.loads(client("inspect", name).stdout)
    return f"{facts['State']['Status']} {facts['State']['ExitCode']}"


@pytest.mark.full
def test_a_quiet_machine_is_suspended_and_resumed(client: Client, yard: Yard) -> None:
    command = ("sh", "-c", "echo hi; exit 3")
    client("run", "--name", "job", "--network", "none", "busybox", *command, check=False)
    (machine,) = machines(yard)
    wait_for_state(yard, machine, "suspended")
    begin = time.monotonic()
    assert status_of(client, "job") == "exited 3"
    assert client.lines("ps", "-a", "--format", "{{.Names}} {{.State}}") == ["job exited"]
    assert client.lines("wait", "job") == ["3"]
    print(f"three calls about a suspended machine: {time.monotonic() - begin:.2f} s")
    assert yard.hosts.get(machine).state == "suspended"
    begin = time.monotonic()
    assert client.lines("logs", "job") == ["hi"]
    print(f"logs with a resume: {time.monotonic() - begin:.1f} s")
    assert yard.hosts.get(machine).state == "running"
    client("rm", "job")
    wait_until_deleted(yard)


@pytest.mark.full
def test_the_container_of_a_killed_machine_is_started_again(client: Client, yard: Yard) -> None:
    client("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo hi; sleep 1000")
    (machine,) = machines(yard)
    # Until the disk has the log.
    client("exec", "web", "busybox", "sync")
    time.sleep(5)
    os.kill(pid_of(yard.hosts.get(machine).uuid), signal.SIGKILL)
    end = time.monotonic() + 30
    while status_of(client, "web") != "exited 137":
        assert time.monotonic() < end
        time.sleep(0.5)
    begin = time.monotonic()
    client("start", "web")
    print(f"start with a boot: {time.monotonic() - begin:.1f} s")
    assert status_of(client, "web") == "running 0"
    client("rm", "-f", "web")
    wait_until_deleted(yard)


@pytest.mark.full
def test_limits_size_the_machine(client: Client, yard: Yard) -> None:
    client("run", "-d", "--cpus", "2", "--name", "web", "busybox", "sleep", "1000")
    (machine,) = machines(yard)
    assert yard.hosts.get(machine).size.vcpus == 2
    client("update", "--cpus", "3", "web")
    assert yard.hosts.get(machine).size.vcpus == 3
    assert client.lines("exec", "web", "busybox", "nproc") == ["3"]
    refused = client("update", "--cpus", "99", "web", check=False)
    assert b"its maximum is" in refused.stderr
    client("rm", "-f", "web")
    wait_until_deleted(yard)
