# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker of its own in a container, for one job, in both ways: apart from the host's, held, and
gone whole.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, ImageSpec, SingleSpec, TemplateInfo, TemplateSpec, Yard
from tests.integration.conftest import Controller, Played, task

from .conftest import Docker, ssh
from .guest_controller import connection

pytestmark = [pytest.mark.real, pytest.mark.full]
TEMPLATE = TemplateSpec(
    "nested",
    image=ImageSpec(
        packages=("busybox-static", "python3-apt", "rootlesskit", "slirp4netns", "uidmap")
    ),
)
MEMORY, PIDS, DISK = 400, 256, 400
# Seconds: where the processor is emulated, and others are busy.
PATIENCE = 400.0
LIMITS = {"memory_mib": MEMORY, "cpus": 1, "pids": PIDS, "disk_mib": DISK}
DAEMONS = "ps -o comm= -C dockerd,containerd,rootlesskit,slirp4netns,docker-proxy,containerd-shim"
TRACES = (
    f"{DAEMONS} | sort; sudo losetup --list --noheadings; cat /etc/subuid; sudo ls -A "
    f"/var/lib/stockyard; "
    "grep -e overlay -e nested -e loop /proc/mounts"
)


@dataclass
class Nested:
    """One that is there, and what it took to have it."""

    mode: str
    host: HostInfo
    docker: Docker
    played: Played

    def run(self, *line: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """A command of the job's."""
        return self.docker(self.host, "exec", "--interactive", "nested", *line, **options)

    def inside(self, *line: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """A container of the job's."""
        return self.run("docker", "run", "--rm", *line, **options)

    def limit(self, name: str, *options: str) -> str:
        """Return the limits of one container as the kernel reports them."""
        return self.inside(*options, "box", "cat", f"/sys/fs/cgroup/{name}").stdout.decode().strip()

    def outer(self, name: str) -> str:
        """Return the limits of the whole daemon as the kernel reports them."""
        pid = (
            self.docker(self.host, "inspect", "--format", "{{.State.Pid}}", "nested")
            .stdout.decode()
            .strip()
        )
        place = f"/sys/fs/cgroup$(sudo cut -d: -f3 /proc/{pid}/cgroup | sed 's,/init$,,')"
        return ssh(self.host, f"sudo cat {place}/{name}").stdout.strip()


@pytest.fixture(scope="module")
def host(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    yard.templates.apply(TEMPLATE)
    yield yard.hosts.apply(SingleSpec("nested", "nested")).objects[0]
    yard.hosts.delete("nested")


@pytest.fixture(scope="module")
def play(host: HostInfo, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Played]:
    """Run tasks on the host."""
    root: Path = tmp_path_factory.mktemp("nested")
    (root / "hosts.json").write_text(json.dumps({"all": {"hosts": {"nested": connection(host)}}}))
    controller = Controller(root / "controller")
    return lambda *tasks: controller.play(
        tasks, "-i", str(root / "hosts.json"), hosts="nested", become=True
    )


def traces(host: HostInfo, docker: Docker) -> tuple[str, ...]:
    """All that it could leave behind."""
    queries = (("ps", "--all"), ("volume", "ls"), ("images", "--all"), ("network", "ls"))
    return (
        ssh(host, TRACES).stdout,
        *(docker(host, *line, "--quiet").stdout.decode() for line in queries),
    )


@pytest.fixture(scope="module", params=["rootless", "privileged"])
def nested(
    request: pytest.FixtureRequest,
    host: HostInfo,
    docker: Docker,
    busybox: bytes,
    play: Callable[..., Played],
) -> Iterator[Nested]:
    """Not there in check mode, there, unchanged; and at the end everything as before."""
    before = traces(host, docker)
    want = {"mode": request.param, **LIMITS}
    dry = play(task("dry", "nested", {"check_mode": True}, **want))
    assert traces(host, docker) == before, dry.output
    nested_daemon = Nested(
        request.param,
        host,
        docker,
        play(task("first", "nested", **want), task("again", "nested", **want)),
    )
    assert dry["dry"]["changed"]
    assert not nested_daemon.played["first"].get("failed"), nested_daemon.played["first"]
    nested_daemon.run("docker", "import", "-", "box", stdin=busybox)
    yield nested_daemon
    deletion = play(task("gone", "nested", state="absent"), task("still", "nested", state="absent"))
    assert [deletion[name]["changed"] for name in ("gone", "still")] == [True, False], (
        deletion.output
    )
    assert traces(host, docker) == before


def test_a_second_time_nothing_changes(nested: Nested) -> None:
    assert [nested.played[name]["changed"] for name in ("first", "again")] == [True, False]
    assert nested.played["again"]["exec"] == ["docker", "exec", "--interactive", "nested"]


def test_nested_daemon_works_without_the_hosts_docker(nested: Nested) -> None:
    assert nested.inside("box", "echo", "hello").stdout == b"hello\n"
    assert (
        nested.run("sh", "-c", "ls /run/docker.sock /var/run/docker.sock", check=False).returncode
        != 0
    )
    ids = [nested.docker(nested.host, "info", "--format", "{{.ID}}").stdout]
    ids.append(nested.run("docker", "info", "--format", "{{.ID}}").stdout)
    assert len(set(ids)) == 2


def test_its_containers_are_not_the_hosts(nested: Nested) -> None:
    nested.run("docker", "run", "--detach", "--rm", "--name", "sleeper", "box", "sleep", "300")
    names = ("ps", "--all", "--format", "{{.Names}}")
    assert nested.run("docker", *names).stdout == b"sleeper\n"
    assert nested.docker(nested.host, *names).stdout == b"nested\n"
    users = set(ssh(nested.host, "ps -o uid= -C sleep").stdout.split())
    assert (
        all(int(user) >= 100000 for user in users) if nested.mode == "rootless" else users == {"0"}
    )
    nested.run("docker", "rm", "--force", "sleeper")


def test_limits_of_its_containers_bite(nested: Nested) -> None:
    assert nested.limit("memory.max", "--memory", "64m") == str(64 << 20)
    assert nested.limit("cpu.max", "--cpus", "0.5") == "50000 100000"
    assert nested.limit("pids.max", "--pids-limit", "7") == "7"
    bomb = (
        "--memory",
        "64m",
        "box",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=200M",
        "count=1",
    )
    assert nested.inside(*bomb, check=False).returncode == 137
    forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 2 & done; wait"
    assert (
        b"fork" in nested.inside("--pids-limit", "7", "box", "sh", "-c", forks, check=False).stderr
    )


def test_nested_containers_are_within_the_memory_limit(nested: Nested) -> None:
    assert nested.outer("memory.max") == str(MEMORY << 20)
    bomb = (
        "--memory",
        "4g",
        "box",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=600M",
        "count=1",
    )
    assert nested.inside(*bomb, check=False).returncode == 137
    assert nested.inside("box", "echo", "still").stdout == b"still\n"
    assert (
        nested.run("sh", "-c", "echo max >/sys/fs/cgroup/memory.max", check=False).returncode != 0
    )
    assert nested.outer("memory.max") == str(MEMORY << 20)


def test_they_fill_no_disk_but_its_own(nested: Nested) -> None:
    free = "df --block-size=1M --output=avail / | tail -n 1"
    before = int(ssh(nested.host, free).stdout)
    fill = ("box", "busybox", "dd", "if=/dev/zero", "of=/x", "bs=1M", f"count={3 * DISK}")
    assert b"No space left" in nested.inside(*fill, check=False, timeout=PATIENCE).stderr
    assert before - int(ssh(nested.host, free).stdout) < DISK + 50
    assert nested.inside("box", "echo", "still").stdout == b"still\n"


def test_nested_root_is_root_of_the_host_only_if_privileged(nested: Nested) -> None:
    read = "busybox mknod /disk b 254 0 && busybox dd if=/disk of=/dev/null count=1"
    options = ("--privileged",) if nested.mode == "privileged" else ()
    result = nested.inside(*options, "box", "sh", "-c", read, check=False)
    assert (result.returncode == 0) is (nested.mode == "privileged"), result.stderr
    assert result.returncode == 0 or b"mknod: /disk: Operation not permitted" in result.stderr


def test_nested_containers_are_within_the_process_limit(nested: Nested) -> None:
    """Last: a dockerd that gets no thread any more may end, and then all of it does."""
    assert nested.outer("pids.max") == str(PIDS)
    forks = "for i in $(busybox seq {}); do sleep 20 & done; sleep 20"
    few, many = (
        nested.inside(
            "--pids-limit",
            "5000",
            "box",
            "sh",
            "-c",
            forks.format(count),
            check=False,
            timeout=PATIENCE,
        )
        for count in (20, 2 * PIDS)
    )
    assert few.returncode == 0, few.stderr
    assert many.returncode != 0


def test_a_privileged_one_is_refused_where_the_profile_is_shared(
    host: HostInfo, play: Callable[..., Played]
) -> None:
    marker = "/etc/stockyard/security.json"
    assert ssh(host, f"sudo sed -i.kept s/trusted/shared/ {marker}").returncode == 0
    refused = play(task("refused", "nested", name="another", mode="privileged"))["refused"]
    assert ssh(host, f"sudo mv {marker}.kept {marker}").returncode == 0
    assert "profile is shared" in refused["msg"]
    assert "another" not in ssh(host, "sudo docker ps --all --format '{{.Names}}'").stdout
