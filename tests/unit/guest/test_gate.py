# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS front's gate: a pipe while it is to wait, then a file, and never anything in between."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from stockyard.guest import texts
from stockyard.guest.agent import effects, units
from stockyard.guest.agent.effects import LinuxEffects

TEXT = b"[docker]\naccept = :::2376\n"


class Own(LinuxEffects):
    """The owner of the pipe must be a user of the guest."""

    def own(self, path: str, user: str) -> None:
        assert (os.path.basename(path), user) == ("stockyard-tls.conf.new", "stockyard-tls")


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gate that is shut."""
    configuration = tmp_path / "configuration"
    configuration.write_bytes(TEXT)
    path = tmp_path / "stockyard-tls.conf"
    monkeypatch.setattr(effects, "CONFIGURATION", str(configuration))
    monkeypatch.setattr(effects, "GATE", str(tmp_path / "{}.conf"))
    Own().close_gate(units.FRONT)
    return path


@pytest.fixture
def waiting(gate: Path) -> Iterator[Future[bytes]]:
    """A front that waits at it."""
    with ThreadPoolExecutor() as pool:
        front = pool.submit(gate.read_bytes)
        time.sleep(0.2)
        assert not front.done()
        yield front


def test_waiting_reader_gets_the_whole_file(waiting: Future[bytes]) -> None:
    LinuxEffects().open_gate()
    assert waiting.result(10) == TEXT


def test_later_reader_gets_a_regular_file(gate: Path) -> None:
    LinuxEffects().open_gate()
    assert stat.S_ISREG(gate.stat().st_mode)
    assert stat.S_IMODE(gate.stat().st_mode) == 0o644
    assert gate.read_bytes() == TEXT
    assert [
        path.name for path in gate.parent.iterdir() if path.name.startswith("stockyard-tls")
    ] == ["stockyard-tls.conf"]


def test_gate_is_opened_once(gate: Path) -> None:
    LinuxEffects().open_gate()
    before = gate.stat().st_ino
    LinuxEffects().open_gate()
    assert gate.stat().st_ino == before


@pytest.mark.parametrize("replaced", [False, True], ids=["linked", "replaced"])
def test_gate_is_opened_after_a_restart_of_the_agent(
    gate: Path, waiting: Future[bytes], replaced: bool
) -> None:
    os.link(gate, f"{gate}.pipe")
    if replaced:
        gate.unlink()
        gate.write_bytes(TEXT)
    LinuxEffects().open_gate()
    assert waiting.result(10) == TEXT
    assert not Path(f"{gate}.pipe").exists()


def test_gate_is_closed_again(gate: Path) -> None:
    LinuxEffects().open_gate()
    Own().close_gate(units.FRONT)
    assert stat.S_ISFIFO(gate.stat().st_mode)
    assert stat.S_IMODE(gate.stat().st_mode) == 0o600


def test_reader_that_opens_the_pipe_late_is_served(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Future[bytes]] = []
    wait = time.sleep
    with ThreadPoolExecutor() as pool:

        def meanwhile(_seconds: float) -> None:
            late.append(pool.submit(Path(f"{gate}.pipe").read_bytes))
            wait(0.2)

        monkeypatch.setattr(time, "sleep", meanwhile)
        LinuxEffects().open_gate()
        assert late[0].result(10) == TEXT


def test_a_front_that_starts_again_gets_priority_as_soon_as_it_exists(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the file, because the gate is open before it starts."""
    LinuxEffects().open_gate()
    own, priorities, processes = Own(), list[bool](), gate.parent / "processes"
    monkeypatch.setattr(effects, "FRONT_KILL", str(gate.parent / "kill"))
    monkeypatch.setattr(effects, "FRONT_PROCESSES", str(processes))
    monkeypatch.setattr(own, "prioritize", priorities.append)
    own.replace_front()
    assert stat.S_ISFIFO(gate.stat().st_mode)
    monkeypatch.setattr(os, "sched_getscheduler", lambda _pid: os.SCHED_RR)

    def start(_seconds: float) -> None:
        assert gate.read_bytes() == TEXT
        processes.write_text("7\n")

    monkeypatch.setattr(time, "sleep", start)
    own.open_gate()
    assert priorities == [True]
    assert not Path(f"{gate}.pipe").exists()


def test_a_front_that_does_not_start_again_is_awaited_for_a_moment_only(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(effects, "FRONT_KILL", str(gate.parent / "kill"))
    monkeypatch.setattr(effects, "FRONT_PROCESSES", str(gate.parent / "processes"))
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(os, "sched_getscheduler", lambda _pid: os.SCHED_RR)
    own = Own()
    own.replace_front()
    own.open_gate()
    assert gate.read_bytes() == TEXT
    assert sum(pauses) < 1.2


def test_a_spare_that_waits_replaces_the_front_until_the_next_boot(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd does not start the former front again after this signal."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    (gate.parent / "processes").write_text("7\n")
    assert "RestartPreventExitStatus=SIGALRM\nSuccessExitStatus=SIGALRM\n" in texts.TLS_UNIT
    killed = gate.parent / "kill"
    spare = gate.with_name("stockyard-tls-spare.conf")
    monkeypatch.setattr(effects, "FRONT_KILL", str(gate.parent / "kill {}"))
    monkeypatch.setattr(effects, "FRONT_PROCESSES", str(gate.parent / "processes"))
    own = Own()
    own.open_gate()
    os.mkfifo(spare)
    own.replace_front()
    assert Path(f"{killed} stockyard-tls.service").exists()
    assert not gate.exists()
    assert signals == [(7, signal.SIGALRM)]
    with ThreadPoolExecutor() as pool:
        front = pool.submit(spare.read_bytes)
        own.open_gate()
        assert front.result(10) == TEXT
    assert spare.read_bytes() == TEXT
    monkeypatch.setattr(own, "own", lambda _path, _user: None)
    own.replace_front()
    assert stat.S_ISFIFO(spare.stat().st_mode), "a child of the child has no spare"
    assert len(signals) == 1
    assert Path(f"{killed} stockyard-tls-spare.service").exists()
    assert not gate.exists()
