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
from typing import Any

import pytest

from stockyard.guest.ports import proxy, relay

SLEEP = ["sleep", "60"]
# A program that asks for a port, and ends after a line on its input.
ASK = "import sys; from stockyard.guest.ports.proxy import ask; print(ask({}, {!r}), flush=True);"
LIBRARY = Path(relay.__file__).parents[3]


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


def start(hypervisor: Hypervisor, port: int) -> subprocess.Popen[str]:
    program = ASK.format(port, hypervisor.socket) + " sys.stdin.readline()"
    return subprocess.Popen(
        ["python3", "-c", program],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """End a program that asked; return the answer that it got."""
    return process.communicate("\n", timeout=20)[0].strip()


def test_program_waits_for_the_forward_and_releases_it_at_its_end(hypervisor: Hypervisor) -> None:
    process = start(hypervisor, 9999)
    assert hypervisor.read() == {"number": 1, "ports": [9999]}
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    hypervisor.answer(1)
    assert end(process) == ""
    assert hypervisor.read() == {"number": 2, "ports": []}


def test_reason_of_a_failed_forward_is_passed_on(hypervisor: Hypervisor) -> None:
    process = start(hypervisor, 9999)
    hypervisor.read()
    hypervisor.answer(1, p9999="in use")
    assert end(process) == "in use"
    second = start(hypervisor, 9998)
    assert hypervisor.read()["ports"] == [9998]
    hypervisor.answer(2)
    assert end(second) == ""


def test_answer_to_an_earlier_list_does_not_count(hypervisor: Hypervisor) -> None:
    first = start(hypervisor, 1)
    hypervisor.read()
    second = start(hypervisor, 2)
    assert hypervisor.read() == {"number": 2, "ports": [1, 2]}
    hypervisor.answer(1)
    assert end(first) == ""
    assert hypervisor.read() == {"number": 3, "ports": [2]}
    assert second.poll() is None
    hypervisor.answer(3)
    assert end(second) == ""


def test_many_programs_at_once_are_answered(hypervisor: Hypervisor) -> None:
    processes = [start(hypervisor, port) for port in range(1, 13)]
    while len((line := hypervisor.read())["ports"]) < 12:
        hypervisor.answer(line["number"])
    hypervisor.answer(line["number"])
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(end, processes)) == [""] * 12


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
    assert "does not forward ports now" in proxy.ask(0, hypervisor.socket, 0.5)


def test_absent_relay_is_reported_after_the_patience(tmp_path: Path) -> None:
    begin = time.monotonic()
    assert "run the declaration of the host again" in proxy.ask(80, str(tmp_path / "none"), 0.5)
    assert 0.4 < time.monotonic() - begin < 5


def test_silent_relay_is_reported_after_the_patience(tmp_path: Path) -> None:
    with relay.listen(str(tmp_path / "socket")):
        assert "did not forward the port in time" in proxy.ask(80, str(tmp_path / "socket"), 0.5)


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


def test_program_that_becomes_docker_proxy_reports_a_problem_as_it_does(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.write_text("active")
    for name, command in {"docker-proxy": "echo proxy $@", "systemctl": f"cat {state}"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    program = (
        "import os, sys; os.dup2(1, 3); from stockyard.guest.ports import proxy;"
        "problems = {80: 'no', 82: proxy.ABSENT};"
        "proxy.ask = lambda port: problems.get(port, ''); proxy.main(sys.argv[1:])"
    )
    options = ["-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port"]  # noqa: S104
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(LIBRARY)}

    def run(port: str) -> tuple[int, str]:
        result = subprocess.run(
            ["python3", "-c", program, *options, port],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout

    assert run("80") == (1, "1\nport 80: no")
    assert run("81") == (0, f"proxy {' '.join(options)} 81\n")
    assert run("82") == (1, f"1\nport 82: {proxy.ABSENT}")
    # dockerd does not try again to start a container with a restart policy.
    state.write_text("activating")
    assert run("82") == (0, f"proxy {' '.join(options)} 82\n")
    assert run("80")[0] == 1
