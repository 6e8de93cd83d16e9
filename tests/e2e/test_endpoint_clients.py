# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients of Docker's API use an endpoint.

STOCKYARD_ENDPOINT is the address of an endpoint that runs already, such as that of
tests/helpers/local_dockerds.py. Without it, the endpoint's machines are real guests.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from stockyard import Hardware, TemplateInfo, Yard
from tests.endpoint_suite.images import complete_root
from tests.endpoint_suite.registry import free_port
from tests.helpers import docker_clients
from tests.helpers.docker_clients import DockerClients
from tests.helpers.other_collections import others
from tests.helpers.values import present

from . import test_endpoint
from .conftest import TEMPLATE

# The fixtures of an endpoint that serves machines.
client, image_host = test_endpoint.client, test_endpoint.image_host
service, socket = test_endpoint.service, test_endpoint.socket
pytestmark = [pytest.mark.real, pytest.mark.full]
ADDRESS = "STOCKYARD_ENDPOINT"
IMAGE = "toolbox"
# The same with Docker's client, and the option that gives a container the endpoint.
CLIENT_IMAGE = "client"
SOCKET = ("-v", "/var/run/docker.sock:/var/run/docker.sock")
# Seconds for one command, and for a change to be seen.
PATIENCE, CHANGE = 300.0, 60.0
SEARCH_PATH = "ENV PATH=/bin"
WEB = "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w"


@dataclass(frozen=True)
class Docker:
    """One of Docker's clients, or another program that uses the endpoint.

    :param command: the start of its command line.
    :param environment: its environment.
    """

    command: tuple[str, ...]
    environment: dict[str, str]

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        cwd: Path | None = None,
        code: int = 0,
        **settings: str,
    ) -> str:
        """Run a command, check its exit code, and return its output."""
        process = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            cwd=cwd,
            env={**self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert process.returncode == code, (arguments, process.stdout, process.stderr)
        return process.stdout if code == 0 else process.stdout + process.stderr

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that succeeds, and return its output without the last line end."""
        return self.run(*arguments, stdin=stdin).rstrip("\n")

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Yield a command that runs. It is killed at the end, or after a time without an end."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*self.command, *arguments], stdin=pipe, stdout=pipe, env=self.environment
        ) as process:
            patience = threading.Timer(PATIENCE, process.kill)
            patience.start()
            try:
                yield process
            finally:
                patience.cancel()
                process.kill()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the facts of a container."""
        (facts,) = json.loads(self("inspect", "--type", "container", name))
        return dict(facts)


@pytest.fixture(scope="module")
def origin(yard: Yard, template: TemplateInfo) -> TemplateInfo:
    """The template of the image host, whose forks can have the volumes of several jobs."""
    spec = replace(TEMPLATE, name="volumes", hardware=Hardware(spare_ports=8))
    return yard.templates.apply(spec).object


@pytest.fixture(scope="module")
def clients() -> DockerClients:
    """All clients, fetched if they are not there."""
    return docker_clients.fetch()


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest, clients: DockerClients) -> dict[str, str]:
    """The environment of all clients."""
    address = os.environ.get(ADDRESS)
    if not address:
        address = f"unix://{request.getfixturevalue('client').socket}"
    return {"PATH": os.environ["PATH"], "HOME": str(clients.home), "DOCKER_HOST": address}


@pytest.fixture(scope="module")
def images(clients: DockerClients, environment: dict[str, str]) -> None:
    """Give the image host an image with all programs of busybox."""
    archive = complete_root(clients.busybox, "toolbox")
    changes = ("--change", 'CMD ["sh"]', "--change", SEARCH_PATH)
    program = clients.releases["bookworm"]
    command = [str(program), "import", *changes, "-", IMAGE]
    subprocess.run(command, input=archive, env=environment, check=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def client_image(
    clients: DockerClients,
    environment: dict[str, str],
    images: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """An image with all programs of busybox and with Docker's client."""
    context = tmp_path_factory.mktemp("client")
    program = clients.releases["trixie"]
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [Path(path) for path in re.findall(r"(/\S+) \(", linked)]
    for file in (program, *libraries):
        shutil.copy(file, context)
    copied = "".join(f"COPY {path.name} {path}\n" for path in libraries)
    text = f"FROM {IMAGE}\nCOPY docker /bin/docker\n{copied}"
    (context / "Dockerfile").write_text(text)
    docker = Docker((str(program),), environment)
    docker.run("build", "-q", "-t", CLIENT_IMAGE, str(context), DOCKER_BUILDKIT="0")
    return CLIENT_IMAGE


@pytest.fixture(params=sorted(docker_clients.DEBIAN))
def cli(
    request: pytest.FixtureRequest,
    clients: DockerClients,
    environment: dict[str, str],
    images: None,
) -> Iterator[Docker]:
    """Docker's client of one release of Debian."""
    used = Docker((str(clients.releases[request.param]),), environment)
    yield used
    remove_everything(used)


@pytest.fixture
def latest(clients: DockerClients, environment: dict[str, str], images: None) -> Iterator[Docker]:
    """Docker's client that has plugins."""
    used = Docker((str(clients.releases["trixie"]),), environment)
    yield used
    remove_everything(used)


def remove_everything(docker: Docker) -> None:
    """Remove what a test that failed leaves: all but images."""
    if containers := docker("ps", "-aq").split():
        docker("rm", "-f", *containers)
    if volumes := docker("volume", "ls", "-q").split():
        docker("volume", "rm", *volumes)
    docker("network", "prune", "-f")


class Terminal:
    """A program in a terminal that has a size."""

    def __init__(self, docker: Docker, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(24, 80)
        command = ["setsid", "--ctty", "--wait", *docker.command, *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=docker.environment
        )
        os.close(slave)
        self.text = ""

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the terminal, as its window does."""
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, pattern: str) -> None:
        """Read until the text has a pattern."""
        assert self.shows(pattern, PATIENCE), (pattern, self.text)

    def shows(self, pattern: str, seconds: float) -> bool:
        """Read until the text has a pattern, or for a time. Return whether the text has it."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if not select.select([self.master], [], [], max(end - time.monotonic(), 0.0))[0]:
                return False
            try:
                block = os.read(self.master, 4096)
            except OSError:  # all ends are closed
                block = b""
            assert block, (pattern, self.text)
            self.text += block.decode()
        return True

    def send(self, text: str) -> None:
        """Type a text."""
        os.write(self.master, text.encode())

    def wait(self) -> int:
        """Return the exit code of the program."""
        code = self.process.wait(PATIENCE)
        os.close(self.master)
        return code


def fetched(port: str) -> str:
    """Return the page at a published port, which can be served a moment later."""
    end = time.monotonic() + CHANGE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_terminal_is_resized(cli: Docker) -> None:
    show = "while true; do stty size; sleep 0.2; done"
    cli("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
    for arguments in (("run", "--rm", "-it", IMAGE), ("exec", "-it", "web")):
        terminal = Terminal(cli, *arguments, "sh", "-c", show)
        terminal.expect("24 80")
        # Docker's client does not notice a change while it sends the first size.
        for columns in (120, 121, 122):
            terminal.resize(40, columns)
            if terminal.shows(f"40 {columns}", CHANGE / 3):
                break
        terminal.expect("40 12[012]")
        terminal.send("\x03")
        assert terminal.wait() == 130


def test_a_shell_in_a_terminal_ends_with_its_exit_code(cli: Docker) -> None:
    terminal = Terminal(cli, "run", "--rm", "-it", IMAGE, "sh")
    terminal.expect("# ")
    terminal.send("echo $((6 * 7))\n")
    terminal.expect("42\r\n")
    terminal.send("exit 5\n")
    assert terminal.wait() == 5


def typed(program: subprocess.Popen[bytes], text: bytes) -> None:
    """Write to the standard input of a program, which stays open."""
    present(program.stdin).write(text)
    present(program.stdin).flush()


def test_a_container_is_attached_and_its_log_is_followed(cli: Docker) -> None:
    # The standard input of a container that was started in the background stays open.
    script = "read a; echo got $a; read b; echo got $b"
    cli("run", "-di", "--name", "web", IMAGE, "sh", "-c", script)
    with (
        cli.running("logs", "-f", "web") as follower,
        cli.running("attach", "web") as attached,
    ):
        typed(attached, b"one\ntwo\n")
        for program in (attached, follower):
            assert present(program.stdout).read() == b"got one\ngot two\n"
    assert cli("wait", "web") == "0"
    assert cli("logs", "--tail", "1", "web") == "got two"
    with cli.running("start", "-ai", "web") as attached:
        typed(attached, b"three\nfour\n")
        assert present(attached.stdout).read() == b"got three\ngot four\n"


def test_a_port_is_published(cli: Docker) -> None:
    cli("run", "-d", "--name", "web", "-p", "80", IMAGE, "sh", "-c", WEB)
    port = cli("port", "web", "80").partition("\n")[0].rpartition(":")[2]
    assert fetched(port) == "page"
    assert f"0.0.0.0:{port}->80/tcp" in cli("ps", "--format", "{{.Ports}}")
    cli("commit", "--change", "EXPOSE 80", "web", "exposing")
    cli("run", "-d", "--name", "shop", "-P", "exposing", "httpd", "-f", "-h", "/w")
    assert fetched(cli("port", "shop", "80").split("\n")[0].rpartition(":")[2]) == "page"
    cli("rm", "-f", "shop")
    first = free_port()
    for name in ("first", "second"):
        ports = ("-p", f"{first}-{first + 20}:80")
        cli("run", "-d", "--name", name, *ports, "exposing", "httpd", "-f", "-h", "/w")
        assert fetched(cli("port", name, "80").partition("\n")[0].rpartition(":")[2]) == "page"
    cli("rm", "-f", "first", "second")
    cli("rmi", "exposing")


def test_files_are_copied_both_ways(cli: Docker, tmp_path: Path) -> None:
    cli("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text").write_text("hello\n")
    cli("cp", str(folder), "web:/copied")
    assert cli("exec", "web", "cat", "/copied/text") == "hello"
    cli("cp", "web:/copied/text", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "hello\n"
    assert cli("diff", "web") == "A /copied\nA /copied/text"


def test_a_running_container_is_observed_and_changed(cli: Docker) -> None:
    begin = str(int(time.time()))
    container_id = cli("run", "-d", "--name", "web", "-m", "64m", IMAGE, "sleep", "1000")
    assert cli("top", "web").split("\n")[1].endswith("sleep 1000")
    assert "web" in cli("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
    cli("rename", "web", "shop")
    cli("update", "--memory", "96m", "--memory-swap", "192m", "shop")
    assert cli.inspect("shop")["HostConfig"]["Memory"] == 96 << 20
    cli("pause", "shop")
    assert cli.inspect("shop")["State"]["Status"] == "paused"
    cli("unpause", "shop")
    assert cli("exec", "-i", "shop", "cat", stdin="text") == "text"
    assert cli.run("exec", "shop", "sh", "-c", "exit 7", code=7) == ""
    cli("exec", "-d", "shop", "touch", "/done")
    cli("stop", "-t", "0", "shop")
    cli("start", "shop")
    cli("exec", "shop", "test", "-e", "/done")
    cli("kill", "shop")
    assert cli("wait", "shop") == "137"
    cli("rm", "shop")
    filters = ("--filter", f"container={container_id}", "--format", "{{.Action}}")
    actions = cli("events", "--since", begin, "--until", str(int(time.time()) + 1), *filters)
    expected = ["create", "start", "rename", "update", "pause", "unpause"]
    expected += ["die", "start", "die", "destroy"]
    assert [action for action in actions.split("\n") if action in expected] == expected


def test_images_are_built_saved_and_loaded(cli: Docker, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("copied\n")
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY text /text\nRUN cat text > /built\n")
    for buildkit in "01":
        cli.run("build", "-t", "built:1", str(tmp_path), DOCKER_BUILDKIT=buildkit)
        assert cli("run", "--rm", "built:1", "cat", "/built") == "copied"
        archive = str(tmp_path / "image.tar")
        cli("save", "-o", archive, "built:1")
        cli("rmi", "built:1")
        cli("load", "-i", archive)
        cli("tag", "built:1", "built:2")
        cli("run", "--name", "draft", "built:2", "sh", "-c", "echo more > /more")
        cli("commit", "draft", "saved:1")
        assert cli("run", "--rm", "saved:1", "cat", "/built", "/more") == "copied\nmore"
        cli("rm", "draft")
        cli("rmi", "-f", "saved:1", "built:1", "built:2")


def test_a_prune_removes_what_is_not_used(cli: Docker) -> None:
    cli("run", "--name", "old", IMAGE, "true")
    cli("network", "create", "empty")
    cli("system", "prune", "-f", "--filter", "label=none")
    cli("system", "prune", "-f", "--filter", "until=1h")
    assert cli("ps", "-aq", "--filter", "name=old")
    cli("system", "prune", "-f")
    assert cli("ps", "-aq") == ""
    names = cli("network", "ls", "--format", "{{.Name}}").split("\n")
    assert sorted(names) == ["bridge", "host", "none"]


def test_an_image_without_a_name_is_pruned_after_its_containers(cli: Docker) -> None:
    cli("run", "--name", "draft", IMAGE, "touch", "/draft")
    image = cli("commit", "draft")
    cli("run", "--name", "old", image, "true")
    cli("image", "prune", "-f")
    cli("start", "-a", "old")
    cli("rm", "draft", "old")
    assert image in cli("image", "prune", "-f")
    assert cli("images", "-q", "--filter", "dangling=true") == ""


COMPOSE = f"""\
services:
  db:
    image: {IMAGE}
    command: sh -c 'echo row > /data/row; while true; do nc -l -p 5432 -e cat /data/row; done'
    volumes: ["data:/data"]
  web:
    image: shop-web
    build: .
    ports: ["PORT:80"]
    depends_on: [db]
    healthcheck: {{test: test -s /w/index.html, interval: 1s, retries: 100}}
  job:
    image: {IMAGE}
    command: wget -qO- http://web/
    depends_on: {{web: {{condition: service_healthy}}}}
volumes: {{data: {{}}}}
"""
COMPOSE_IMAGE = f"""\
FROM {IMAGE}
CMD mkdir -p /w; while ! nc db 5432 > /w/index.html; do sleep 1; done; exec httpd -f -p 80 -h /w
"""


def test_compose_runs_three_services(latest: Docker, tmp_path: Path) -> None:
    port = str(free_port())
    (tmp_path / "compose.yml").write_text(COMPOSE.replace("PORT", port))
    (tmp_path / "Dockerfile").write_text(COMPOSE_IMAGE)

    def compose(*arguments: str) -> str:
        return latest.run("compose", "-p", "shop", *arguments, cwd=tmp_path)

    try:
        compose("up", "-d", "--build", "--wait", "db", "web")
        assert fetched(port) == "row"
        assert compose("run", "--rm", "-T", "job") == "row\n"
        listed = compose("ps", "--format", "{{.Service}} {{.State}}").split("\n")
        assert sorted(filter(None, listed)) == ["db running", "web running"]
        assert compose("exec", "-T", "db", "cat", "/data/row") == "row\n"
        compose("up", "-d", "job")
        assert latest("wait", "shop-job-1") == "0"
        assert "row" in compose("logs", "--no-color", "job")
        assert compose("port", "web", "80").rpartition(":")[2].strip() == port
        compose("restart", "-t", "0", "web")
        assert fetched(port) == "row"
        compose("stop", "-t", "0")
        compose("start")
        assert fetched(port) == "row"
    finally:
        compose("down", "-v", "-t", "0", "--rmi", "local")
    assert latest("ps", "-aq") == ""
    assert latest("volume", "ls", "-q") == ""
    assert "shop" not in latest("network", "ls", "--format", "{{.Name}}")


WORKFLOW = """\
on: push
jobs:
  first:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - {id: output, shell: sh, run: 'cat text; echo "number=42" >> "$GITHUB_OUTPUT"'}
      - {shell: sh, run: 'echo the number is ${{ steps.output.outputs.number }}'}
  second:
    runs-on: ubuntu-latest
    steps:
      - {shell: sh, run: 'echo from the second job; docker version --format json'}
"""


def test_act_runs_two_jobs_at_once(
    latest: Docker, clients: DockerClients, client_image: str, tmp_path: Path
) -> None:
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "ci.yml").write_text(WORKFLOW)
    (tmp_path / "text").write_text("from the repository\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    act = Docker((str(clients.act),), latest.environment)
    output = act.run("push", "-P", f"ubuntu-latest={client_image}", "--pull=false", cwd=tmp_path)
    for text in ("from the repository", "the number is 42", "from the second job", '"Os":"linux"'):
        assert text in output
    assert output.count("Job succeeded") == 2
    assert latest("ps", "-aq") == ""
    latest("volume", "rm", "act-toolcache")


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


def wait_until_empty(docker: Docker) -> None:
    """Wait until no container exists."""
    end = time.monotonic() + CHANGE
    while containers := docker("ps", "-a", "--format", "{{.Names}}"):
        assert time.monotonic() < end, containers
        time.sleep(0.5)


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
