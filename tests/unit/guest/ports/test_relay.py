# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay, and programs that ask it for forwards."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from stockyard.guest import port_files
from stockyard.guest.ports import relay

SLEEP = ["sleep", "60"]
OPTIONS = ["-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port"]  # noqa: S104
Process: TypeAlias = "subprocess.Popen[str]"


class Hypervisor:
    """The other end of a relay."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "socket")
        from_relay, target = os.pipe()
        source, to_relay = os.pipe()
        self._lists = os.fdopen(from_relay, "rb")
        self._answers = os.fdopen(to_relay, "wb", buffering=0)
        self.relay = relay.Relay(relay.listen(self.socket), source, target)
        self._thread = threading.Thread(target=self.relay.run, daemon=True)
        self._thread.start()

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self._lists.readline()))

    def answer(self, number: int, **failed: str) -> None:
        line = {"number": number, "failed": {port[1:]: why for port, why in failed.items()}}
        self._answers.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        self._answers.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.relay.close()
        self._lists.close()
        for descriptor in (self.relay.source, self.relay.target):
            os.close(descriptor)


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[Hypervisor]:
    other_end = Hypervisor(tmp_path)
    yield other_end
    other_end.close()


def programs(folder: Path) -> Path:
    """Return a directory with a docker-proxy that ends after a line on its input."""
    path = folder / "programs"
    if path.exists():
        # Other programs use it now.
        return path
    path.mkdir()
    state = "cat state"
    for name, command in {"docker-proxy": "echo proxy $@; read line", "systemctl": state}.items():
        (path / name).write_text(f"#!/bin/sh\n{command}\n")
        (path / name).chmod(0o755)
    return path


def start(path: str, port: int, patience: int = 20, state: str = "active") -> Process:
    """Start the program that asks for a port and becomes docker-proxy, as dockerd does."""
    folder = Path(path).parent
    (folder / "state").write_text(state)
    script = folder / f"ask-{port}"
    script.write_text(port_files.ask_script(path, patience))
    command = ["sh", "-c", 'exec perl "$@" 3>&1', "sh", str(script), *OPTIONS, str(port)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": f"{programs(folder)}:/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: Process) -> str:
    """End a program that asked; return its output: its arguments as docker-proxy, or the result
    that dockerd reads.
    """
    return process.communicate("\n", timeout=30)[0].strip()


def proxied(port: int) -> str:
    """Return the output of docker-proxy."""
    return f"proxy {' '.join(OPTIONS)} {port}"


def test_program_waits_for_the_forward_and_releases_it_at_its_end(hypervisor: Hypervisor) -> None:
    process = start(hypervisor.socket, 9999)
    assert hypervisor.read() == {"number": 1, "ports": [9999]}
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    hypervisor.answer(1)
    assert end(process) == proxied(9999)
    assert hypervisor.read() == {"number": 2, "ports": []}


def test_reason_of_a_failed_forward_is_passed_on(hypervisor: Hypervisor) -> None:
    process = start(hypervisor.socket, 9999)
    hypervisor.read()
    hypervisor.answer(1, p9999="in use")
    assert end(process) == "1\nport 9999: in use"
    second = start(hypervisor.socket, 9998)
    assert hypervisor.read()["ports"] == [9998]
    hypervisor.answer(2)
    assert end(second) == proxied(9998)


def test_answer_to_an_earlier_list_does_not_count(hypervisor: Hypervisor) -> None:
    first = start(hypervisor.socket, 1)
    hypervisor.read()
    second = start(hypervisor.socket, 2)
    assert hypervisor.read() == {"number": 2, "ports": [1, 2]}
    hypervisor.answer(1)
    assert end(first) == proxied(1)
    assert hypervisor.read() == {"number": 3, "ports": [2]}
    assert second.poll() is None
    hypervisor.answer(3)
    assert end(second) == proxied(2)


def test_many_programs_at_once_are_answered(hypervisor: Hypervisor) -> None:
    processes = [start(hypervisor.socket, port) for port in range(1, 13)]
    while len((line := hypervisor.read())["ports"]) < 12:
        hypervisor.answer(line["number"])
    hypervisor.answer(line["number"])
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(end, processes)) == [proxied(port) for port in range(1, 13)]


def test_existing_processes_are_in_the_first_list(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP) as process:
        source, to_relay = os.pipe()
        from_relay, target = os.pipe()
        adopting = relay.Relay(relay.listen(str(tmp_path / "socket")), source, target)
        adopting.adopt({process.pid: 80, 1 << 22: 81})
        thread = threading.Thread(target=adopting.run, daemon=True)
        thread.start()
        with os.fdopen(from_relay, "rb") as lists:
            assert json.loads(lists.readline()) == {"number": 1, "ports": [80]}
            process.kill()
            assert json.loads(lists.readline()) == {"number": 2, "ports": []}
        os.close(to_relay)
        thread.join(10)
        adopting.close()
        for descriptor in (source, target):
            os.close(descriptor)


def test_request_that_is_no_port_is_ignored(hypervisor: Hypervisor) -> None:
    assert port_files.ABSENT in end(start(hypervisor.socket, 0, patience=1))


def test_absent_relay_is_reported_after_the_patience(tmp_path: Path) -> None:
    begin = time.monotonic()
    result = end(start(str(tmp_path / "none"), 80, patience=1))
    assert result == f"1\nport 80: {port_files.ABSENT}"
    assert 0.1 < time.monotonic() - begin < 10


def test_container_with_a_restart_policy_starts_without_a_relay(tmp_path: Path) -> None:
    """While dockerd starts, it does not try again."""
    process = start(str(tmp_path / "none"), 80, patience=1, state="activating")
    assert end(process) == proxied(80)


def test_silent_relay_is_reported_after_the_patience(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with relay.listen(path):
        assert end(start(path, 80, patience=1)) == f"1\nport 80: {port_files.LATE}"
    with relay.listen(path):
        result = end(start(path, 80, patience=1, state="activating"))
        assert result == f"1\nport 80: {port_files.LATE}"


def test_relay_replaces_the_socket_and_the_process_of_an_earlier_one(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with relay.listen(path), relay.listen(path):
        assert os.stat(path).st_mode & 0o777 == 0o600
    note = tmp_path / "pid"
    with subprocess.Popen(["sh", "-c", "sleep 60; :", "stockyard_ports.relay"]) as earlier:
        note.write_text(str(earlier.pid))
        # The kernel shows the arguments a moment after the start.
        while not Path(f"/proc/{earlier.pid}/cmdline").read_text():
            time.sleep(0.01)
        relay.end_previous(str(note))
        assert earlier.wait(10) == -15
    with subprocess.Popen(SLEEP) as program:
        note.write_text(str(program.pid))
        relay.end_previous(str(note))
        assert int(note.read_text()) == os.getpid()
        assert program.poll() is None
        program.kill()


def test_settings_of_a_dockerd_that_does_not_ask_are_an_error(tmp_path: Path) -> None:
    settings = tmp_path / "daemon.json"
    settings.write_text(json.dumps({"userland-proxy-path": relay.PROGRAM}))
    relay.check_settings(str(settings))
    for keys in ({}, {"userland-proxy-path": relay.PROGRAM, "userland-proxy": False}):
        settings.write_text(json.dumps(keys))
        with pytest.raises(SystemExit, match=r"daemon\.json must not contain userland-proxy"):
            relay.check_settings(str(settings))
