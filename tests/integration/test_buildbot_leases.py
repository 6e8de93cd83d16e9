# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Buildbot master with the latent worker of examples/buildbot runs each build on a leased host of
a memory hypervisor, where the real worker of Buildbot connects with the master.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stockyard import FleetSpec, TemplateSpec, Yard
from tests.helpers import buildbot, crash, processes, ssh_stand_in
from tests.helpers.clocks import FakeClock
from tests.helpers.documented_commands import CHECKOUT

pytestmark = pytest.mark.full
EXAMPLES = CHECKOUT / "examples" / "buildbot"
# Seconds for a change to be seen, and for all builds of a test.
CHANGE, PATIENCE = 60.0, 300.0
SUCCESS = 0
STEP = '["uname", "-n"]'
FLEET = FleetSpec("ci", "ci", count=3, min_ready=3, max=10)
# How often the master is killed, and the longest time in seconds until then.
KILLS, LONGEST = 6, 6.0


class Master:
    """The program of the master, with the configuration of the example.

    :param folder: the directory in which it runs.
    :param environment: the environment of the program.
    """

    def __init__(self, program: Path, folder: Path, environment: dict[str, str]) -> None:
        self.program, self.folder, self.environment = program, folder, environment
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self("create-master", "master")
        shutil.copy(EXAMPLES / "leased_worker.py", folder / "master")
        self.configure()

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command, check its exit code, and return its output."""
        process = subprocess.run(
            [sys.executable, str(self.program), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert process.returncode == code, process.stdout
        return process.stdout

    def configure(self, options: str = "", step: str = STEP) -> None:
        """Write the configuration of the example.

        :param options: more options of the worker.
        """
        text = (EXAMPLES / "leases.cfg").read_text()
        for old, new in {
            "tcp:9989": f"tcp:{self.port}",
            'fleet="ci"': f'fleet="ci", port={self.port}{options}',
            STEP: step,
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self.folder / "master" / "master.cfg").write_text(text)

    def start(self) -> None:
        """Start the master in the background."""
        self("start", "--start_timeout", "120", "master")

    def kill(self) -> None:
        """Kill the master."""
        pid = int((self.folder / "master" / "twistd.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        (self.folder / "master" / "twistd.pid").unlink()

    def request(self, count: int) -> None:
        """Request builds."""
        command = ("sendchange", "--master", f"127.0.0.1:{self.port}", "--auth", "change:changepw")
        for number in range(count):
            self(*command, "--who", "me", "--revision", str(number), "README.md")

    def results(self) -> list[int]:
        """Return the results of all requests that are complete."""
        path = self.folder / "master" / "state.sqlite"
        with closing(sqlite3.connect(path, timeout=60)) as database:
            query = "SELECT results FROM buildrequests WHERE complete = 1"
            return [int(row[0]) for row in database.execute(query)]

    def wait(self, count: int) -> list[int]:
        """Wait until at least so many requests are complete, and return their results."""
        end = time.monotonic() + PATIENCE
        while len(results := self.results()) < count:
            assert time.monotonic() < end, results
            time.sleep(0.2)
        return results

    @property
    def log(self) -> str:
        """Return the log of the master."""
        return (self.folder / "master" / "twistd.log").read_text()


@pytest.fixture(scope="module")
def packages() -> Path:
    """Buildbot, fetched if it does not exist."""
    return buildbot.fetch_packages()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The hypervisor of the test."""
    return f"memory://{tmp_path}/hypervisor"


@pytest.fixture
def yard(uri: str, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a fleet of three ready hosts."""
    with Yard(uri, pki_dir=str(tmp_path / "home" / ".config" / "stockyard")) as yard:
        yard.templates.apply(TemplateSpec("ci"))
        yard.fleets.apply(FLEET)
        yield yard


@pytest.fixture
def master(packages: Path, yard: Yard, uri: str, tmp_path: Path) -> Iterator[Master]:
    """A master that does not run yet."""
    programs = tmp_path / "host-programs"
    programs.mkdir()
    worker = programs / "buildbot-worker"
    program = f"{sys.executable} {packages}/bin/buildbot-worker"
    worker.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {program} "$@"\n')
    worker.chmod(0o755)
    stand_in = ssh_stand_in.install_hosts(tmp_path / "bin", tmp_path / "homes", programs)
    master = Master(
        packages / "bin" / "buildbot",
        tmp_path,
        {
            "PATH": f"{stand_in}:{os.environ['PATH']}",
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(packages),
            "STOCKYARD_HYPERVISOR": uri,
        },
    )
    yield master
    if (tmp_path / "master" / "twistd.pid").exists():
        print(master.log[-20000:])
        master("stop", "--no-wait", "master")
    processes.kill(str(tmp_path / "homes"))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + CHANGE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def check_nothing_is_leased(yard: Yard, tmp_path: Path) -> None:
    """Check that leases and their keys are gone, and that all hosts are ready."""
    wait_until(lambda: not yard.leases.list())
    # The replacement of the last host can still be in progress.
    wait_until(lambda: all(host.ready for host in yard.hosts.list()))
    assert list((tmp_path / "home").rglob("leases/*")) == []


def test_each_of_twenty_builds_has_a_host(master: Master, yard: Yard, tmp_path: Path) -> None:
    builds = 20
    before = {host.uuid for host in yard.hosts.list()}
    master.start()
    master.request(builds)
    assert master.wait(builds) == [SUCCESS] * builds
    check_nothing_is_leased(yard, tmp_path)
    # The stand-in has a directory for each host, and a worker leaves its directory there.
    assert len(list((tmp_path / "homes").glob("*/worker"))) == builds
    hosts = yard.hosts.list()
    assert before.isdisjoint(host.uuid for host in hosts)
    assert 3 <= len(hosts) <= 7
    master("stop", "--clean", "master")
    wait_until(lambda: not processes.of(str(tmp_path / "homes")))


@pytest.mark.parametrize("reaped", [True, False])
def test_killed_master_leaves_nothing(
    master: Master, yard: Yard, uri: str, tmp_path: Path, reaped: bool
) -> None:
    builds = 8
    master.configure(step='["sleep", "2"]')
    master.start()
    master.request(builds)
    master.wait(2)
    wait_until(lambda: len(yard.leases.list()) >= 2)
    master.kill()
    # The workers end with the connection.
    wait_until(lambda: not processes.of(str(tmp_path / "homes")))
    assert yard.leases.list() != ()
    if reaped:
        pki = str(tmp_path / "home" / ".config" / "stockyard")
        with Yard(uri, pki_dir=pki, clock=FakeClock(time.time() + 2000)) as later:
            later.reap()
            assert later.leases.list() == ()
        check_nothing_is_leased(yard, tmp_path)
        # All hosts can have been leased, and requests do not create a fleet without hosts.
        yard.fleets.apply(FLEET)
    master.start()
    assert master.wait(builds) == [SUCCESS] * builds
    check_nothing_is_leased(yard, tmp_path)


def test_master_killed_at_random_instants_leaves_nothing(
    master: Master, yard: Yard, tmp_path: Path
) -> None:
    builds = 2 * KILLS
    master.configure(step='["sleep", "1"]')
    for seed in range(KILLS):
        master.start()
        if not seed:
            master.request(builds)
        time.sleep(crash.instant(seed, LONGEST))
        master.kill()
        wait_until(lambda: not processes.of(str(tmp_path / "homes")))
        crash.check_nothing_is_left(tmp_path, tmp_path / "home" / ".config" / "stockyard")
        yard.fleets.apply(FLEET)
    master.start()
    assert master.wait(builds) == [SUCCESS] * builds
    check_nothing_is_leased(yard, tmp_path)


def test_lease_is_renewed_while_a_build_runs(master: Master, yard: Yard, tmp_path: Path) -> None:
    master.configure(", duration=9", '["sleep", "12"]')
    master.start()
    master.request(1)
    ends: set[float] = set()
    while not master.results():
        ends |= {lease.until for lease in yard.leases.list()}
        time.sleep(0.5)
    assert master.results() == [SUCCESS]
    assert len(ends) >= 3
    check_nothing_is_leased(yard, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (", build_wait_timeout=60", "a host runs one build only"),
        (", max_builds=2", "a host runs one build only"),
        (", duration=0", "duration must be a positive number of seconds"),
    ],
)
def test_wrong_configuration_is_refused(master: Master, options: str, message: str) -> None:
    master.configure(options)
    assert message in master("checkconfig", "master", code=1)
