# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of GitLab's custom executor are killed at random instants, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import FleetSpec, TemplateSpec, Yard
from tests.helpers import crash, ssh_stand_in

pytestmark = pytest.mark.full
FLEET = FleetSpec("ci", "ci", count=3, min_ready=3, max=10)
SEED, KILLS = 23, 30
STAGES = ("prepare", "run", "cleanup")


class Runner:
    """A runner that calls the stages of a job.

    :param folder: the directory of the hypervisor.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "script"
        self.script.write_text("sleep 0.3\n")
        (folder / "programs").mkdir()
        programs = ssh_stand_in.install_hosts(folder / "bin", folder / "homes", folder / "programs")
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "JOB_RESPONSE_FILE": str(folder / "response.json"),
        }

    def start(self, stage: str) -> subprocess.Popen[bytes]:
        """Start a stage."""
        command = [sys.executable, "-m", "stockyard.cli.main", "ci", "gitlab", stage]
        command += ["--hypervisor", f"memory://{self.folder}/hypervisor"]
        command += ["--pki-dir", str(self.folder / "pki"), "--fleet", "ci"]
        words = [*command, str(self.script)] if stage == "run" else command
        return subprocess.Popen(words, env=self.environment, start_new_session=True)

    def run_job(self, number: int, until: float) -> bool:
        """Run the stages of a job, kill the one that runs at a time, and return whether one was
        killed.
        """
        response = {"id": number, "runner_info": {"timeout": 600}}
        (self.folder / "response.json").write_text(json.dumps(response))
        for stage in STAGES:
            process = self.start(stage)
            try:
                code = process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
            assert code == 0, (stage, code)
        return False


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A yard with a fleet of three ready hosts."""
    with Yard(f"memory://{tmp_path}/hypervisor", pki_dir=str(tmp_path / "pki")) as yard:
        yard.templates.apply(TemplateSpec("ci"))
        yard.fleets.apply(FLEET)
        yield yard


def test_stages_killed_at_random_instants_leave_nothing_after_a_reap(
    yard: Yard, tmp_path: Path
) -> None:
    runner = Runner(tmp_path)
    begin = time.monotonic()
    assert not runner.run_job(0, begin + 600)
    duration = time.monotonic() - begin
    killed = 0
    for number in range(1, KILLS + 1):
        until = time.monotonic() + crash.instant(SEED + number, duration)
        if runner.run_job(number, until):
            killed += 1
            if number % 2:
                # The runner lives, and calls the last stage after each failure.
                assert runner.start("cleanup").wait() == 0
                assert yard.leases.list() == ()
        crash.check_nothing_is_left(tmp_path, tmp_path / "pki")
        yard.fleets.apply(FLEET)
        assert [host.ready for host in yard.hosts.list()] == [True] * 3
    print(f"{killed} of {KILLS} jobs were killed, within {duration:.1f} s each")
    assert killed >= KILLS / 2
