# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line reaches hosts: by SSH, with Docker's client, through a tunnel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import HostInfo, TemplateInfo

from .conftest import OWNER, WORK, Docker

pytestmark = pytest.mark.real
# Seconds to a shell without KVM, on a busy machine.
EMULATED = 90


class Console:
    """The command in a directory with a declaration of the yard."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": path}
        (folder / "yard.yml").write_text(
            f"yard_owner: {OWNER}\nyard_hypervisor: qemu:///session\n"
            f"yard_storage: {WORK}/store\nyard_pki_dir: {WORK}/pki\n"
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-m", "stockyard.cli.main", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run the command to its end, and return its output."""
        process = self.start(*words)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == code, output + errors
        return output


@pytest.fixture
def console(tmp_path: Path, fleet: list[HostInfo], docker: Docker) -> Console:
    """The command, with Docker's client in its path."""
    return Console(tmp_path, f"{docker.client.parent}:{os.environ['PATH']}")


def test_commands_reach_a_host(console: Console, fleet: list[HostInfo], tmp_path: Path) -> None:
    name = fleet[0].name
    assert f"{name} " in console("ls")
    assert console("exec", name, "--", "uname", "-s") == "Linux\n"
    assert console("exec", name, "sh", "-c", "echo $((1 + 1)); exit 7", code=7) == "2\n"
    assert console("ssh", name, "hostname") == f"{name}\n"
    (tmp_path / "a b").write_text("page")
    console("cp", "a b", f"{name}:/tmp/c d")
    console("cp", f"{name}:/tmp/c d", "back")
    assert (tmp_path / "back").read_text() == "page"
    assert console("docker", name, "info", "--format", "{{.Name}}") == f"{name}\n"
    assert console("logs", name, "--lines", "3")
    assert console("console", name, "--lines", "3")


def test_three_commands_lead_to_a_shell(template: TemplateInfo, tmp_path: Path) -> None:
    console = Console(tmp_path, os.environ["PATH"])
    begin = time.monotonic()
    console("template", "ls")
    try:
        console("host", "create", "box", "--template", template.name)
        assert console("ssh", "box", "hostname") == "box\n"
        duration = time.monotonic() - begin
    finally:
        console("host", "delete", "box")
    print(f"three commands: {duration:.1f} s")
    assert duration < (10 if os.access("/dev/kvm", os.W_OK) else EMULATED)


def test_ssh_and_docker_reach_a_host_by_its_name(
    console: Console, fleet: list[HostInfo], docker: Docker, tmp_path: Path
) -> None:
    way = fleet[0].ssh
    name = fleet[0].name
    argv = ["ssh", "-F", way.config, "-o", "BatchMode=yes", name, "hostname"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert result.stdout == f"{name}\n", result.stderr
    # Docker's client calls the ssh of its path, which reads the user's own configuration.
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    real_ssh = shutil.which("ssh")
    wrapper.write_text(f'#!/bin/sh\nexec {real_ssh} -F "{way.config}" -o BatchMode=yes "$@"\n')
    wrapper.chmod(0o755)
    environment = {
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DOCKER_HOST": f"ssh://{name}",
    }
    argv = [str(docker.client), "info", "--format", "{{.Name}}"]
    result = subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert result.stdout == f"{name}\n", result.stderr


def test_dockers_client_accepts_the_certificate_at_the_end_of_a_tunnel(
    console: Console, fleet: list[HostInfo], docker: Docker
) -> None:
    port = free_port()
    process = console.start("tunnel", fleet[0].name, f"{port}:2376")
    try:
        wait_for(port)
        for name in ("localhost", "127.0.0.1"):
            facts = replace(
                fleet[0].docker,
                environment={
                    **fleet[0].docker.environment,
                    "DOCKER_HOST": f"tcp://{name}:{port}",
                },
            )
            reached = docker(replace(fleet[0], docker=facts), "info", "--format", "{{.Name}}")
            assert reached.stdout.decode() == f"{fleet[0].name}\n"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def free_port() -> int:
    """Return a port of the loopback on which no program listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until a program listens on a port of the loopback."""
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=30).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_tunnel_leads_to_the_loopback_of_a_host(console: Console, fleet: list[HostInfo]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = console.start("tunnel", fleet[0].name, f"{port}:22")
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                    assert connection.recv(4) == b"SSH-"
                    break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.2)
    finally:
        # SIGINT is ignored in a process that a shell started in the background.
        process.terminate()
        process.communicate(timeout=60)
