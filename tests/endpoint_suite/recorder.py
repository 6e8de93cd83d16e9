# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugin of the pytest that runs docker-py's tests: it selects tests, records each outcome at once,
stops in time, and scales time-outs.

The plugin runs in the environment of docker-py and imports nothing of this project.
"""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

# Each line is one outcome, appended when the test has ended.
RECORD = "STOCKYARD_SUITE_RECORD"
# Node ids of the tests to run, one a line.
SELECTED = "STOCKYARD_SUITE_SELECTED"
# Seconds since the epoch after which no further test starts.
DEADLINE = "STOCKYARD_SUITE_DEADLINE"
# Factor of time-outs.
SCALE = "STOCKYARD_SUITE_SCALE"
REASON_LENGTH = 2000
# Seconds for which docker-py waits for an answer, unless a test sets another time-out.
CLIENT_TIMEOUT = 60


class Recorder:
    """Record of one run.

    :param record: the file of outcomes.
    """

    def __init__(
        self, record: Path, selected: frozenset[str], deadline: float, scale: float
    ) -> None:
        self.record = record
        self.selected = selected
        self.deadline = deadline
        self.scale = scale
        self.reports: dict[str, list[pytest.TestReport]] = {}
        self.session: pytest.Session | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the selected tests, and scale their declared time-outs."""
        config.hook.pytest_deselected(
            items=[item for item in items if item.nodeid not in self.selected]
        )
        items[:] = [item for item in items if item.nodeid in self.selected]
        for item in items:
            marker = item.get_closest_marker("timeout")
            if marker and marker.args:
                seconds = marker.args[0] * self.scale
                item.add_marker(pytest.mark.timeout(seconds), append=False)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Scale the usual time-outs of docker-py's waiting helper and of its client."""
        self.session = session
        make_patient(import_module("docker").APIClient, self.scale)
        helpers = import_module("tests.helpers")
        delay, seconds = helpers.wait_on_condition.__defaults__
        helpers.wait_on_condition.__defaults__ = (delay, seconds * self.scale)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome after the last phase of a test."""
        phases = self.reports.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when == "teardown":
            line = json.dumps({"test": report.nodeid, **outcome(phases)})
            with self.record.open("a", encoding="utf-8") as output:
                output.write(f"{line}\n")
            if self.session and time.time() > self.deadline:
                self.session.shouldstop = "the time is up"


def make_patient(client_class: Any, scale: float) -> None:
    """Scale the time-out of clients that have the usual one."""
    create = client_class.__init__

    def create_patiently(client: Any, *arguments: Any, **options: Any) -> None:
        if options.get("timeout", CLIENT_TIMEOUT) == CLIENT_TIMEOUT:
            options["timeout"] = CLIENT_TIMEOUT * scale
        create(client, *arguments, **options)

    client_class.__init__ = create_patiently


def outcome(phases: list[pytest.TestReport]) -> dict[str, Any]:
    """Return outcome, time and reason of a test from its phases."""
    failed = [phase for phase in phases if phase.failed]
    skipped = [phase for phase in phases if phase.skipped]
    word = "failed" if failed else "skipped" if skipped else "passed"
    reason = "".join(phase.longreprtext for phase in failed or skipped)
    seconds = round(sum(phase.duration for phase in phases), 2)
    return {"outcome": word, "seconds": seconds, "reason": reason[-REASON_LENGTH:]}


def pytest_configure(config: pytest.Config) -> None:
    """Register the recorder, unless tests are only listed."""
    if RECORD in os.environ:
        selected = Path(os.environ[SELECTED]).read_text(encoding="utf-8").split("\n")
        recorder = Recorder(
            Path(os.environ[RECORD]),
            frozenset(selected),
            float(os.environ[DEADLINE]),
            float(os.environ[SCALE]),
        )
        config.pluginmanager.register(recorder, "stockyard-recorder")
