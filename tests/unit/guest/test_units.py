# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units that gave up end a wait at once, with their last words; units that are still being started
do not.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from stockyard.guest.agent import units, warmup

WELL = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "NRestarts": "0",
    "ConditionResult": "yes",
    "ConditionTimestampMonotonic": "1",
}
WORDS = 'unable to configure the Docker daemon with file /etc/docker/daemon.json: "icc"'


class Systemd:
    """Shows units as a test says, and the journal of them."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.journal = {
            ("_SYSTEMD_UNIT=docker.service", "_TRANSPORT=stdout"): f"{WORDS}\n{WORDS}\n"
        }
        self.sshd = subprocess.CompletedProcess[str](
            [], 1, "", "sshd: no hostkeys available -- exiting.\n"
        )

    def run(self, line: Any, **_more: Any) -> subprocess.CompletedProcess[str]:
        if line[0] == "/usr/sbin/sshd":
            return self.sshd
        if line[0] == "journalctl":
            return subprocess.CompletedProcess(
                line, 0, self.journal.get((line[-2], line[-1]), ""), ""
            )
        names = line[line.index("--") + 1 :]
        blocks = [{"Id": name, **WELL, **self.units.get(name, {})} for name in names]
        text = "\n\n".join(
            "\n".join(f"{key}={value}" for key, value in block.items()) for block in blocks
        )
        return subprocess.CompletedProcess(line, 0, text + "\n", "")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    systemd = Systemd()
    monkeypatch.setattr(subprocess, "run", systemd.run)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr("os.makedirs", lambda *_path, **_more: None)
    return systemd


GAVE_UP = {
    "failed": {"ActiveState": "failed"},
    "restarted again and again": {"ActiveState": "activating", "NRestarts": "3"},
    "a dependency failed": {
        "ActiveState": "inactive",
        "ConditionResult": "no",
        "ConditionTimestampMonotonic": "0",
    },
}
GOES_ON = {
    "active": {},
    "active after many restarts": {"NRestarts": "9"},
    "starts": {"ActiveState": "activating", "NRestarts": "2"},
    "waits for its turn": {"ActiveState": "inactive", "Job": "117"},
    "a condition keeps it off": {"ActiveState": "inactive", "ConditionResult": "no"},
    "is not there": {"ActiveState": "inactive", "LoadState": "not-found"},
}


@pytest.mark.parametrize("state", GAVE_UP)
def test_unit_that_gave_up_is_reported_with_its_last_words(systemd: Systemd, state: str) -> None:
    systemd.units["docker.service"] = GAVE_UP[state]
    assert units.failures(units.DOCKER) == [f"docker.service failed: {WORDS}"]


@pytest.mark.parametrize("state", GOES_ON)
def test_unit_that_may_still_start_is_not_reported(systemd: Systemd, state: str) -> None:
    systemd.units["docker.service"] = GOES_ON[state]
    assert units.failures(units.DOCKER) == []


@pytest.mark.parametrize("name", units.DOCKER[1:])
def test_failed_unit_of_docker_is_reported_and_an_inactive_one_is_not(
    systemd: Systemd, name: str
) -> None:
    systemd.journal["--unit", name] = f"{name}: Failed with result 'exit-code'.\n"
    systemd.units[name] = {"ActiveState": "inactive"}
    assert units.failures(units.DOCKER) == []
    systemd.units[name] = {"ActiveState": "failed"}
    assert units.failures(units.DOCKER) == [
        f"{name} failed: {name}: Failed with result 'exit-code'."
    ]


def test_unit_that_is_failed_for_a_moment_between_two_starts_is_not_reported(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd.units["docker.service"] = {"ActiveState": "failed", "NRestarts": "1"}
    monkeypatch.setattr(time, "sleep", lambda _seconds: systemd.units.clear())
    assert units.failures(units.DOCKER) == []


def test_wait_for_a_unit_that_gave_up_ends_long_before_its_deadline(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd.units["docker.service"] = {"ActiveState": "failed"}
    monkeypatch.setattr(warmup, "LOOK", 0.0)
    begin = time.monotonic()
    with pytest.raises(warmup.UnitFailed, match="unable to configure the Docker daemon"):
        warmup.prepare(1800.0, docker=True)
    assert time.monotonic() - begin < 10


def test_configuration_that_sshd_does_not_take_ends_the_warm_up(systemd: Systemd) -> None:
    units.check_sshd()
    systemd.sshd = subprocess.CompletedProcess(
        [], 255, "", "x.conf: line 1: Bad configuration option: Prot\n"
    )
    with pytest.raises(RuntimeError, match="Bad configuration option: Prot"):
        warmup.prepare(1800.0, docker=False)
