# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns of starting machines: as many as processors, more while these are idle, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded
from stockyard.providers.common.queue_files import FileQueues
from stockyard.providers.libvirt import turns
from stockyard.providers.libvirt.turns import QueueTurns

PROCESSORS = 2
BUSY, IDLE = 100, 1
# Seconds within which work that waits for nothing ends.
SOON = 30.0


def turns_in(folder: Path, runnable: int) -> QueueTurns:
    """Return the turns as another controller has them."""
    return QueueTurns(FileQueues(lambda: folder), PROCESSORS, lambda: runnable)


class Machines:
    """Machines that start, each from a controller of its own."""

    def __init__(self, folder: Path, runnable: int) -> None:
        self.folder, self.runnable = folder, runnable
        self.started: list[int] = []
        self.starting = self.most = 0
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self, number: int, work: Callable[[], object]) -> None:
        """Start a machine in the background, and wait until it is in the queue."""
        queue = FileQueues(lambda: self.folder)
        length = queue.length(turns.QUEUE, time.time())

        def run() -> None:
            with turns_in(self.folder, self.runnable).take(f"host {number}", Deadline(SOON)):
                with self._changed:
                    self.started.append(number)
                    self.starting += 1
                    self.most = max(self.most, self.starting)
                    self._changed.notify_all()
                work()
                with self._changed:
                    self.starting -= 1

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()
        end = time.monotonic() + SOON
        while queue.length(turns.QUEUE, time.time()) == length and number not in self.started:
            assert time.monotonic() < end
            time.sleep(0.001)

    def wait_for(self, count: int) -> None:
        """Wait until so many have started."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.started) >= count, SOON)

    def join(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()


def test_busy_processors_start_one_machine_each_in_order(tmp_path: Path) -> None:
    machines, release = Machines(tmp_path, BUSY), threading.Event()

    def work() -> None:
        release.wait(SOON)
        time.sleep(0.05)

    for number in range(8):
        machines.start(number, work)
    release.set()
    machines.join()
    assert machines.most == PROCESSORS
    # Those that start together note their start in any order.
    for place, number in enumerate(machines.started):
        assert abs(place - number) < PROCESSORS, machines.started


def test_idle_processors_start_more_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "POLL", 0.01)
    machines, release = Machines(tmp_path, IDLE), threading.Event()
    most = PROCESSORS * turns.MOST_FOR_EACH_PROCESSOR
    for number in range(most + 2):
        machines.start(number, lambda: release.wait(SOON))
    machines.wait_for(most)
    time.sleep(0.2)
    assert len(machines.started) == most
    release.set()
    machines.join()


def test_slow_machine_does_not_delay_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SLOW", 0.2)
    machines, release = Machines(tmp_path, BUSY), threading.Event()
    for number in range(PROCESSORS):
        machines.start(number, lambda: release.wait(SOON))
    machines.start(PROCESSORS, lambda: None)
    machines.wait_for(PROCESSORS + 1)
    release.set()
    machines.join()


def test_turn_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    machines, release = Machines(tmp_path, BUSY), threading.Event()
    for number in range(PROCESSORS):
        machines.start(number, lambda: release.wait(SOON))
    with (
        pytest.raises(DeadlineExceeded, match=r"host late.*start of other machines.*timeout"),
        turns_in(tmp_path, BUSY).take("host late", Deadline(0.2)),
    ):
        pytest.fail("it has no turn")
    release.set()
    machines.join()
    with turns_in(tmp_path, BUSY).take("host next", Deadline(SOON)):
        assert FileQueues(lambda: tmp_path).length(turns.QUEUE, time.time()) == 1
    assert not list(tmp_path.glob(f"{turns.QUEUE}.0*"))


def test_runnable_processes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns.runnable_processes() >= 1
    monkeypatch.setattr(turns, "LOADAVG", tmp_path / "loadavg")
    assert turns.runnable_processes() == 0
    (tmp_path / "loadavg").write_text("0.20 0.18 0.12 7/80 11206\n")
    assert turns.runnable_processes() == 7
