# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's own clients use an endpoint: those of two releases of Debian, and compose."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.endpoint_suite.registry import free_port
from tests.helpers import docker_clients
from tests.helpers.docker_clients import DockerClients
from tests.helpers.values import present

from . import endpoint_clients, test_endpoint
from .endpoint_clients import CHANGE, IMAGE, PATIENCE, WEB, Docker, fetched, remove_everything

# The fixtures of an endpoint that serves machines, and those of its clients.
client, image_host = test_endpoint.client, test_endpoint.image_host
service, socket = test_endpoint.service, test_endpoint.socket
origin, clients = endpoint_clients.origin, endpoint_clients.clients
environment, images = endpoint_clients.environment, endpoint_clients.images
latest = endpoint_clients.latest
pytestmark = [pytest.mark.real, pytest.mark.full]


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
