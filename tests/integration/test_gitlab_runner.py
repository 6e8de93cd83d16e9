# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitLab's own runner, with the configuration of docs/gitlab.md, runs jobs of a stand-in for GitLab
on the hosts of a memory hypervisor.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from stockyard import Yard
from tests.helpers import crash, gitlab_runner, processes, service_programs, ssh_stand_in
from tests.helpers.documented_commands import CHECKOUT
from tests.helpers.gitlab import FAILED, SUCCESS, TOKEN, GitLab, Job

pytestmark = pytest.mark.full
PAGE = (CHECKOUT / "docs" / "gitlab.md").read_text(encoding="utf-8")
# Seconds for a change to be seen, and for all jobs of a test.
CHANGE, PATIENCE = 60.0, 180.0
# The longest time until the runner is killed, in seconds after it took the first job.
LONGEST = 8.0
# The largest number of hosts, and how many are ready, as the page declares.
LARGEST, READY = 10, 3


@pytest.fixture(scope="module")
def program() -> Path:
    """GitLab's runner, built if it does not exist."""
    return gitlab_runner.fetch()


@pytest.fixture
def gitlab(tmp_path: Path) -> Iterator[GitLab]:
    """A GitLab that has no jobs yet."""
    gitlab = GitLab(tmp_path / "gitlab")
    yield gitlab
    gitlab.close()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The hypervisor of the test."""
    return f"memory://{tmp_path}/hypervisor"


@pytest.fixture
def environment(tmp_path: Path, uri: str, program: Path) -> dict[str, str]:
    """The environment of the runner."""
    programs = tmp_path / "host-programs"
    programs.mkdir()
    (programs / "gitlab-runner").symlink_to(program)
    stand_in = ssh_stand_in.install_hosts(tmp_path / "bin", tmp_path / "homes", programs)
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    return {
        "PATH": f"{stand_in}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "STOCKYARD_HYPERVISOR": uri,
    }


def block(kind: str) -> str:
    """Return the first file of this kind on the page."""
    return str(re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0])


def replaced(text: str, replacements: dict[str, str]) -> str:
    """Return the text with replacements that must apply."""
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def yard(tmp_path: Path, uri: str, environment: dict[str, str]) -> Iterator[Yard]:
    """The yard that the page declares."""
    (tmp_path / "yard.yml").write_text(f"yard_pki_dir: {tmp_path}/pki\n{block('yaml')}")
    stockyard = tmp_path / "stockyard"
    stockyard.write_text(f'#!/bin/sh\nexec {sys.executable} -m stockyard.cli.main "$@"\n')
    stockyard.chmod(0o755)
    apply(tmp_path, environment)
    with Yard(uri, pki_dir=str(tmp_path / "pki")) as yard:
        assert len(yard.hosts.list()) == READY
        yield yard


def apply(tmp_path: Path, environment: dict[str, str]) -> None:
    """Apply the declaration of the page."""
    command = [str(tmp_path / "stockyard"), "apply", "--yard", str(tmp_path / "yard.yml")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def start(
    yard: Yard, gitlab: GitLab, tmp_path: Path, environment: dict[str, str], program: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the runner, as documented but for names and directories."""
    runners: list[subprocess.Popen[bytes]] = []
    directories = ["--builds-dir", f"{tmp_path}/builds", "--cache-dir", f"{tmp_path}/cache"]
    replacements = {
        "/usr/local/bin/stockyard": str(tmp_path / "stockyard"),
        "/etc/stockyard/yard.yml": str(tmp_path / "yard.yml"),
        "https://gitlab.example.com": gitlab.url,
        "glrt-…": TOKEN,
        '"config"]': f'"config", {json.dumps(directories)[1:-1]}]',
    }

    def start_runner(**changes: str) -> subprocess.Popen[bytes]:
        text = replaced(block("toml"), replacements | changes)
        configuration = tmp_path / "config.toml"
        configuration.write_text(f"check_interval = 1\n{text}")
        command = [str(program), "run", "--config", str(configuration)]
        with (tmp_path / "runner.log").open("ab") as log:
            runners.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return runners[-1]

    yield start_runner
    for runner in runners:
        if runner.poll() is None:
            runner.terminate()
            try:
                runner.wait(CHANGE)
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.wait()
    print((tmp_path / "runner.log").read_text()[-20000:])
    wait_for_stages(tmp_path)


def wait_until(condition: Callable[[], bool], limit: float = PATIENCE) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def wait_for_stages(tmp_path: Path) -> None:
    """Wait until no stage of a job runs any more."""
    processes.wait_for_end(str(tmp_path / "yard.yml"), CHANGE)


def wait_for_end(*jobs: Job) -> None:
    """Wait until the jobs have ended, and print their output."""
    try:
        wait_until(lambda: all(job.ended for job in jobs))
    finally:
        for job in jobs:
            print(f"--- {job.id} {job.state} {job.failure_reason} {job.exit_code}\n{job.text}")


def check_nothing_is_leased(yard: Yard, tmp_path: Path) -> None:
    """Check that leases and their keys are gone, and that ready hosts are in their place."""
    assert yard.leases.list() == ()
    assert list((tmp_path / "pki").rglob("leases/*")) == []
    # The replacement of the last host can still be in progress.
    wait_until(lambda: all(host.ready for host in yard.hosts.list()), CHANGE)
    assert READY <= len(yard.hosts.list()) <= LARGEST


@contextmanager
def observed(yard: Yard) -> Iterator[dict[str, set[str]]]:
    """Collect the hosts that each holder has during the block."""
    hosts: dict[str, set[str]] = {}
    ended = False

    def observe() -> None:
        while not ended:
            for host in yard.hosts.list():
                if host.lease:
                    hosts.setdefault(host.lease.holder, set()).add(host.uuid)
            time.sleep(0.1)

    with ThreadPoolExecutor() as pool:
        observer = pool.submit(observe)
        try:
            yield hosts
        finally:
            ended = True
        observer.result()


def test_each_of_several_jobs_has_a_host(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path
) -> None:
    script = ("cat input", "test ! -e ~/used", "touch ~/used", "echo home=$HOME", "sleep 3")
    jobs = [gitlab.add(*script) for _number in range(6)]
    with observed(yard) as hosts:
        start()
        wait_for_end(*jobs)
    assert {job.state for job in jobs} == {SUCCESS}
    assert all("contents" in job.text for job in jobs)
    homes = {re.search(r"^home=(\S+)", job.text, re.MULTILINE)[1] for job in jobs}  # type: ignore[index]
    assert len(homes) == len(jobs)
    assert {str(path) for path in (tmp_path / "homes").iterdir()} == homes
    assert set(hosts) == {f"gitlab job {job.id} of 127.0.0.1" for job in jobs}
    assert [len(uuids) for uuids in hosts.values()] == [1] * len(jobs)
    used = set().union(*hosts.values())
    assert len(used) == len(jobs)
    check_nothing_is_leased(yard, tmp_path)
    assert used.isdisjoint(host.uuid for host in yard.hosts.list())


def test_failed_script_fails_the_job_with_its_exit_code(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path
) -> None:
    job = gitlab.add("echo before", "exit 7", "echo after")
    start()
    wait_for_end(job)
    assert (job.state, job.failure_reason, job.exit_code) == (FAILED, "script_failure", 7)
    assert "\nbefore\n" in job.text
    assert "\nafter\n" not in job.text
    check_nothing_is_leased(yard, tmp_path)


def test_job_without_a_host_is_a_failure_of_the_system(
    yard: Yard, gitlab: GitLab, start: Callable[..., object]
) -> None:
    for number in range(LARGEST):
        yard.leases.acquire("ci", holder=f"person {number}", wait=CHANGE)
    job = gitlab.add("echo never")
    start(**{'"10m"]': '"1s"]'})
    wait_for_end(job)
    assert (job.state, job.failure_reason) == (FAILED, "runner_system_failure")
    assert "none of the 10 matching hosts is free" in job.text
    assert "echo never" not in job.text
    holders = {lease.holder for lease in yard.leases.list()}
    assert holders == {f"person {number}" for number in range(LARGEST)}


def test_broken_connection_is_a_failure_of_the_system(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path
) -> None:
    job = gitlab.add("touch ~/unreachable", artifacts=["input"])
    start()
    wait_for_end(job)
    assert (job.state, job.failure_reason) == (FAILED, "runner_system_failure")
    assert "the connection failed" in job.text
    check_nothing_is_leased(yard, tmp_path)


@pytest.mark.parametrize("remote_state", ["canceling", "canceled"])
def test_cancelled_job_ends_with_its_host(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path, remote_state: str
) -> None:
    job = gitlab.add("echo running", "sleep 300", "echo after")
    start()
    wait_until(lambda: "\nrunning\n" in job.text)
    (lease,) = yard.leases.list()
    uuid = yard.hosts.get(lease.host).uuid
    job.remote_state = remote_state
    wait_until(lambda: not yard.leases.list(), CHANGE)
    assert uuid not in {host.uuid for host in yard.hosts.list()}
    assert "\nafter\n" not in job.text
    if remote_state == "canceling":
        wait_for_end(job)
        assert (job.state, job.failure_reason) == (FAILED, "job_canceled")
    check_nothing_is_leased(yard, tmp_path)


def test_artifacts_of_a_job_reach_a_job_on_another_host(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path
) -> None:
    start()
    first = gitlab.add("mkdir out", "echo built from $(cat input) > out/result", artifacts=["out"])
    wait_for_end(first)
    assert first.state == SUCCESS
    second = gitlab.add("echo found: $(cat out/result)", needs=[first])
    wait_for_end(second)
    assert second.state == SUCCESS
    assert "found: built from contents" in second.text
    check_nothing_is_leased(yard, tmp_path)


def test_services_of_a_job_are_started_on_its_host(
    yard: Yard, gitlab: GitLab, start: Callable[..., object], tmp_path: Path
) -> None:
    programs = tmp_path / "host-programs"
    with socket.create_server(("127.0.0.1", 0)) as server:
        service_programs.install(programs, server.getsockname()[1])
        service = {"name": "team/redis:6", "alias": "cache", "command": ["--port", "6379"]}
        job = gitlab.add("true", services=[service])
        start()
        wait_for_end(job)
    assert job.state == SUCCESS
    assert "service cache team__redis team-redis: started" in job.text
    run = (programs / "docker.log").read_text().splitlines()[1].split()
    assert run[:4] == ["run", "--detach", "--name", "gitlab-service-0"]
    assert run[-3:] == ["team/redis:6", "--port", "6379"]
    check_nothing_is_leased(yard, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_runner_killed_at_a_random_instant_leaves_nothing_after_a_reap(
    yard: Yard,
    gitlab: GitLab,
    start: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    environment: dict[str, str],
    seed: int,
) -> None:
    jobs = [gitlab.add("sleep 2", artifacts=["input"]) for _number in range(3)]
    runner = start()
    wait_until(lambda: bool(jobs[0].state))
    time.sleep(crash.instant(seed, LONGEST))
    runner.kill()
    runner.wait()
    if seed % 2:
        # The machine of the runner failed: the stages are killed, too.
        processes.kill(str(tmp_path / "yard.yml"))
    # Otherwise a stage that runs continues without the runner, but none follows.
    wait_for_stages(tmp_path)
    crash.check_nothing_is_left(tmp_path, tmp_path / "pki")
    apply(tmp_path, environment)
    job = gitlab.add("cat input")
    start()
    wait_for_end(job)
    assert job.state == SUCCESS
