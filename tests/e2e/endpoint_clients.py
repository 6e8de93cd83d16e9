# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint, the images and Docker's client for tests of real clients of Docker's API.

STOCKYARD_ENDPOINT is the address of an endpoint that runs already, such as that of
tests/helpers/local_dockerds.py. Without it, the endpoint's machines are real guests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stockyard import TemplateInfo
from tests.endpoint_suite.images import complete_root
from tests.helpers import docker_clients
from tests.helpers.docker_clients import DockerClients

ADDRESS = "STOCKYARD_ENDPOINT"
IMAGE = "toolbox"
# The same with Docker's client, and the option that gives a container the endpoint.
CLIENT_IMAGE = "client"
SOCKET = ("-v", "/var/run/docker.sock:/var/run/docker.sock")
# Seconds for one command on a busy machine, and for a change to be seen.
PATIENCE, CHANGE = 900.0, 180.0
SEARCH_PATH = "ENV PATH=/bin"
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
def origin(crun: TemplateInfo) -> TemplateInfo:
    """The template of the image host."""
    return crun


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


def wait_until_empty(docker: Docker) -> None:
    """Wait until no container exists."""
    end = time.monotonic() + CHANGE
    while containers := docker("ps", "-a", "--format", "{{.Names}}"):
        assert time.monotonic() < end, containers
        time.sleep(0.5)


def run_workflow(docker: Docker, clients: DockerClients, image: str, folder: Path) -> None:
    """Run a workflow of two jobs by act, and check that it leaves nothing.

    :param image: the image of the jobs, which has Docker's client.
    :param folder: an empty directory.
    """
    workflows = folder / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "ci.yml").write_text(WORKFLOW)
    (folder / "text").write_text("from the repository\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    act = Docker((str(clients.act),), docker.environment)
    output = act.run("push", "-P", f"ubuntu-latest={image}", "--pull=false", cwd=folder)
    for text in ("from the repository", "the number is 42", "from the second job", '"Os":"linux"'):
        assert text in output
    assert output.count("Job succeeded") == 2
    assert docker("ps", "-aq") == ""
    docker("volume", "rm", "act-toolcache")
