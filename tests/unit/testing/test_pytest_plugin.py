# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pytest plugin, in runs of pytest over a memory hypervisor."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stockyard import FleetSpec, TemplateSpec, Yard
from stockyard.service import projects
from stockyard.service.projects import Project, Projects
from stockyard.testing import pytest_plugin
from tests.helpers.clocks import BriskClock
from tests.helpers.running_daemon import Running

SDK = Path(__file__).parents[3] / "plugins" / "module_utils"
RECORD = """
import os, pathlib
def record(host):
    with open("hosts", "a") as file:
        print(host.name, *sorted(os.listdir(host.environment["DOCKER_CERT_PATH"])), file=file)
"""


@pytest.fixture
def real(uri: str, tmp_path: Path) -> Iterator[Yard]:
    """A yard with two hosts, by the machine's own clock."""
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        yield yard


class Suite:
    """Tests of a user, in a directory."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.keys = folder / "pki"
        self.folder = folder / "suite"
        self.folder.mkdir()

    def start(self, text: str, *options: str, yard: bool = True) -> subprocess.Popen[str]:
        """Start pytest with a file of tests."""
        (self.folder / "test_it.py").write_text(RECORD + text)
        # pytest takes a separate word that is a directory for an argument.
        where = [f"--stockyard-hypervisor={self.uri}", f"--stockyard-pki-dir={self.keys}"]
        argv = [sys.executable, "-m", "pytest", "-p", "stockyard.testing.pytest_plugin", "-q"]
        argv += ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(self.folder)]
        return subprocess.Popen(
            [*argv, *(where if yard else []), *options],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(SDK)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str, *options: str, yard: bool = True) -> tuple[int, str]:
        """Run pytest to its end; return its exit code and its output."""
        process = self.start(text, *options, yard=yard)
        output, _error = process.communicate(timeout=120)
        return process.returncode, output

    @property
    def hosts(self) -> list[str]:
        """Return the hosts of the tests, each with the names of its certificate's files."""
        path = self.folder / "hosts"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def suite(real: Yard, uri: str, tmp_path: Path) -> Suite:
    """A directory for tests of a user of the yard."""
    return Suite(uri, tmp_path)


TWO = """
def test_first(stockyard_host):
    record(stockyard_host)
def test_second(stockyard_host, stockyard_docker):
    record(stockyard_host)
    assert stockyard_docker.environment == stockyard_host.environment
    assert 0
"""


def test_each_test_has_a_new_host_that_is_replaced_after_a_failure(
    real: Yard, suite: Suite
) -> None:
    before = {host.uuid for host in real.hosts.list()}
    (suite.folder / "pytest.ini").write_text("[pytest]\nstockyard_fleet = ci\n")
    code, output = suite.run(TWO)
    assert (code, "1 failed, 1 passed" in output) == (1, True), output
    assert len(suite.hosts) == 2
    assert suite.hosts[0].endswith(" ca.pem cert.pem key.pem")
    assert real.leases.list() == ()
    hosts = real.hosts.list()
    assert len(hosts) == 2
    assert not before <= {host.uuid for host in hosts}


def test_session_has_one_host(real: Yard, suite: Suite) -> None:
    options = ["--stockyard-fleet", "ci", "--stockyard-scope", "session"]
    code, output = suite.run(TWO, *options)
    assert (code, "1 failed, 1 passed" in output) == (1, True), output
    assert len(set(suite.hosts)) == 1
    assert real.leases.list() == ()


def test_branched_host_is_deleted(real: Yard, suite: Suite) -> None:
    code, output = suite.run(TWO.replace("record(stockyard_host)", "print(stockyard_host.name)"),
                             "-s", "--stockyard-branch", "ci-1")  # fmt: skip
    assert code == 1, output
    assert len(set(re.findall(r"\bci-1-[0-9a-f]{8}\b", output))) == 2
    assert sorted(host.name for host in real.hosts.list()) == ["ci-1", "ci-2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_releases_its_host(real: Yard, suite: Suite, number: int) -> None:
    text = "\ndef test_long(stockyard_host):\n    import time\n    record(stockyard_host)\n"
    process = suite.start(f"{text}    time.sleep(100)\n", "--stockyard-fleet", "ci")
    end = time.monotonic() + 60
    while not suite.hosts:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    output, _error = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert real.leases.list() == ()
    assert len(real.hosts.list()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "set stockyard_fleet or stockyard_branch"),
        (("--stockyard-fleet", "ci", "--stockyard-branch", "ci-1"), "the tests have two hosts"),
        (("--stockyard-fleet", "ci", "--stockyard-duration", "soon"), "is not a duration"),
        (("--stockyard-fleet", "ci", "--stockyard-service", "unix:///x"), "stockyard_token_file"),
        (("--stockyard-fleet", "none", "--stockyard-wait", "1s"), "no host matches the request"),
    ],
)
def test_missing_or_invalid_options_are_explained(
    suite: Suite, options: tuple[str, ...], message: str
) -> None:
    code, output = suite.run("\ndef test_it(stockyard_host):\n    pass\n", *options)
    assert code != 0
    assert message in output, output


@pytest.mark.parametrize("is_served", [False, True])
def test_holder_fits_beside_the_longest_name_of_a_project(is_served: bool) -> None:
    request: Any = SimpleNamespace(node=SimpleNamespace(name="test_" + "x" * 200))
    holder = pytest_plugin._holder(request, is_served=is_served)
    project = Project("p" * 63 if is_served else "p", "0" * 64, fleets=("ci",))
    assert project.holder(holder).endswith(holder)
    assert holder != pytest_plugin._holder(request, is_served=is_served)


def test_run_without_the_fixtures_needs_no_yard(suite: Suite) -> None:
    code, output = suite.run("\ndef test_it():\n    pass\n", yard=False)
    assert code == 0, output


def test_host_comes_from_a_lease_service(real: Yard, suite: Suite, tmp_path: Path) -> None:
    daemon = Running(suite.uri, tmp_path)
    token_file, token = tmp_path / "token", projects.new_token()
    token_file.touch(0o600)
    token_file.write_text(token)
    project = Project("web", projects.digest_of(token), fleets=("ci",))
    projects.write(daemon.tokens, Projects((project,)))
    daemon.start()
    try:
        options = ["--stockyard-fleet", "ci", "--stockyard-service", f"unix://{daemon.socket}"]
        options += [f"--stockyard-token-file={token_file}"]
        code, output = suite.run(TWO, *options, yard=False)
        assert (code, "1 failed, 1 passed" in output) == (1, True), output
        assert len(suite.hosts) == 2
        assert real.leases.list() == ()
    finally:
        daemon.kill()
