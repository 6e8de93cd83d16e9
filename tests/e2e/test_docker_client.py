# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vanilla Docker client does over mutual TLS what it does on a socket."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from stockyard import HostInfo

from .conftest import Docker

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def three(fleet: list[HostInfo], docker: Docker, busybox: bytes) -> list[HostInfo]:
    """Three hosts, each with a busybox image imported."""
    on_each(fleet[:3], lambda host: docker(host, "import", "-", "busybox:latest", stdin=busybox))
    return fleet[:3]


def on_each(hosts: list[HostInfo], do: Callable[[HostInfo], object]) -> None:
    """The same on every host, at the same time; whatever fails on one of them fails the test."""
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        list(pool.map(do, hosts))


def test_version_and_info_speak_of_the_server(three: list[HostInfo], docker: Docker) -> None:
    def ask(host: HostInfo) -> None:
        version = json.loads(docker(host, "version", "--format", "{{json .Server}}").stdout)
        info = json.loads(docker(host, "info", "--format", "{{json .}}").stdout)
        assert version["Os"] == "linux"
        assert info["Name"] == host.name

    on_each(three, ask)


def test_run_and_its_streams(three: list[HostInfo], docker: Docker) -> None:
    def run(host: HostInfo) -> None:
        assert docker(host, "run", "--rm", "busybox", "echo", "hello").stdout == b"hello\n"
        # The client closes its half of the stream; only then does cat end.
        assert docker(host, "run", "-i", "--rm", "busybox", "cat", stdin=b"x").stdout == b"x"

    on_each(three, run)


def test_a_published_port_exec_logs_and_cp(three: list[HostInfo], docker: Docker) -> None:
    def serve(host: HostInfo) -> None:
        script = "echo page > /index.html; echo serving; exec httpd -f -p 80 -h /"
        docker(host, "run", "-d", "--name", "page", "-p", "8080:80", "busybox", "sh", "-c", script)
        assert fetch(f"http://{host.address}:8080/") == b"page\n"
        assert docker(host, "exec", "page", "cat", "/index.html").stdout == b"page\n"
        with tarfile.open(
            fileobj=io.BytesIO(docker(host, "cp", "page:/index.html", "-").stdout)
        ) as archive:
            assert archive.getnames() == ["index.html"]
        assert followed_logs_end_with_the_container(host, docker) == b"serving\n"
        docker(host, "rm", "page")

    on_each(three, serve)


def test_build(three: list[HostInfo], docker: Docker) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        text = b"FROM busybox\nRUN echo built > /built\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))

    def build(host: HostInfo) -> None:
        docker(host, "build", "-q", "-t", "built", "-", stdin=context.getvalue())
        assert docker(host, "run", "--rm", "built", "cat", "/built").stdout == b"built\n"

    on_each(three, build)


def fetch(url: str) -> bytes:
    """A page, tried for some seconds: the web server in the container takes a moment."""
    end = time.monotonic() + 30
    while True:
        try:
            # a plain http URL
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def followed_logs_end_with_the_container(host: HostInfo, docker: Docker) -> bytes:
    """`logs -f` streams while the container runs and ends when it does."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(docker(host, "logs", "-f", "page").stdout))
    reader.start()
    time.sleep(1)
    assert reader.is_alive()
    docker(host, "kill", "page")
    reader.join(timeout=60)
    assert not reader.is_alive()
    return got[0]


@pytest.mark.full
def test_output_of_a_container_arrives_after_a_long_silence(
    fleet: list[HostInfo], docker: Docker, busybox: bytes
) -> None:
    """The client has said long ago that it sends no more; the front in between does not take that
    for the end.
    """
    docker(fleet[0], "import", "-", "busybox:latest", stdin=busybox)
    line = ["run", "--rm", "busybox", "sh", "-c", "sleep 75; echo late"]
    assert docker(fleet[0], *line, timeout=300).stdout == b"late\n"
