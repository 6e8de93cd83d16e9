# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that forwards the ports of containers, with stand-ins of relay and monitor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostSpec, HypervisorError
from stockyard.clock import Deadline
from stockyard.providers.libvirt import container_ports, port_follower, processes
from stockyard.providers.libvirt.port_follower import Follower, FollowerError, Forwards
from tests.helpers.samples import host_record

ADDRESS = "127.64.1.2"
# A relay whose lists are the lines of a file, and whose answers go to another.
RELAY = """
import sys
for line in open(sys.argv[1]):
    print(line.strip(), flush=True)
    with open(sys.argv[2], "a") as answers:
        answers.write(sys.stdin.readline())
sys.stdin.read() if len(sys.argv) == 3 else sys.exit("closed")
"""


class Monitor:
    """QEMU's monitor with some forwards."""

    def __init__(self, *ports: int) -> None:
        self.ports = {2222, 2376, *ports}
        self.lines: list[str] = []

    def __call__(self, line: str) -> str:
        self.lines.append(line)
        if line == "info usernet":
            rows = "".join(
                f"  TCP[HOST_FORWARD]  12 {ADDRESS}  {port}  10.0.2.15  {port}  0  0\r\n"
                for port in sorted(self.ports)
            )
            foreign_row = "  TCP[HOST_FORWARD]  12  192.0.2.1  9000  10.0.2.15  9000  0  0\r\n"
            return f"Hub -1 (net0):\r\n  Protocol[State]  FD  Source\r\n{rows}{foreign_row}"
        command, _device, rule = line.split()
        port = int(rule.removesuffix("-:" + rule.rpartition(":")[2]).rpartition(":")[2])
        if command == "hostfwd_add":
            self.ports.add(port)
        else:
            self.ports.remove(port)
        return ""


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


def forwards(monitor: Callable[[str], str], *declared_ports: int) -> Forwards:
    return Forwards(monitor, ADDRESS, (2222, 2376), declared_ports)


def test_forwards_follow_the_list(monitor: Monitor) -> None:
    containers = forwards(monitor)
    assert containers.set({9001, 9002}) == {}
    assert containers.set({9002, 9003}) == {}
    assert monitor.ports == {2222, 2376, 9002, 9003}
    assert monitor.lines[:2] == [
        f"hostfwd_add net0 tcp:{ADDRESS}:9001-:9001",
        f"hostfwd_add net0 tcp:{ADDRESS}:9002-:9002",
    ]


def test_forwards_of_an_earlier_follower_are_corrected() -> None:
    monitor = Monitor(8080, 9001, 9002)
    containers = forwards(monitor, 8080)
    containers.read()
    assert containers.ports == {9001, 9002}
    assert containers.set({8080, 9002}) == {}
    assert monitor.ports == {2222, 2376, 8080, 9002}


def test_ports_of_the_host_itself_are_refused(monitor: Monitor) -> None:
    failed = forwards(monitor).set({2222, 2376, 9001})
    assert sorted(failed) == ["2222", "2376"]
    assert "for the host itself" in failed["2222"]
    assert monitor.ports == {2222, 2376, 9001}


def test_port_in_use_is_refused_with_the_reason(monitor: Monitor) -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        port = server.getsockname()[1]
        failed = forwards(monitor).set({port})
    assert failed == {
        str(port): f"the hypervisor cannot use it at {ADDRESS}: Address already in use"
    }


def test_message_of_qemu_is_the_reason() -> None:
    failed = forwards(lambda line: "Could not set up" if "add" in line else "").set({9001})
    assert failed == {"9001": "Could not set up"}


def test_number_of_ports_is_limited(monitor: Monitor) -> None:
    containers = forwards(monitor)
    failed = containers.set(set(range(20000, 20300)))
    assert len(containers.ports) == port_follower.MOST_PORTS == 300 - len(failed)
    assert "at most 256 ports" in failed["20299"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"number": 1, "ports": [0]}',
        b'{"number": 1, "ports": [65536]}',
        b'{"number": 1, "ports": ["9000"]}',
        b'{"number": 1, "ports": [true]}',
        b'{"number": "1", "ports": []}',
        b'{"number": 1, "ports": [[]]}',
        b'{"number": 1, "ports": 5}',
        b"[" * 100000,
    ],
)
def test_line_that_is_no_list_of_ports_is_refused(line: bytes) -> None:
    with pytest.raises(FollowerError):
        port_follower.read_list(line)


@pytest.fixture
def machine() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def order(folder: Path, machine: int, *lists: object, closes: bool = False) -> dict[str, Any]:
    (folder / "lists").write_text("".join(f"{json.dumps(entry)}\n" for entry in lists))
    arguments = [str(folder / "lists"), str(folder / "answers"), *["closes"] * closes]
    return {
        "machine": machine,
        "line": [sys.executable, "-c", RELAY, *arguments],
        "record": str(folder / "ports.json"),
    }


def test_follower_answers_lists_and_ends_with_the_machine(
    tmp_path: Path, monitor: Monitor, machine: subprocess.Popen[bytes]
) -> None:
    lists = [{"number": 1, "ports": [9001]}, {"number": 2, "ports": [9002, 2222]}]
    started: list[int] = []

    def note() -> None:
        started.append(len(monitor.lines))
        machine.kill()

    follower = Follower(order(tmp_path, machine.pid, *lists), forwards(monitor), note)
    follower.run(5)
    assert len(started) == 1
    assert json.loads((tmp_path / "ports.json").read_text())["ports"] == [9001]
    (tmp_path / "ports.json").unlink()


def test_follower_connects_again(
    tmp_path: Path,
    monitor: Monitor,
    machine: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port_follower, "RECONNECT", 0.05)
    requested = order(tmp_path, machine.pid, {"number": 1, "ports": [9001]}, closes=True)
    follower = Follower(requested, forwards(monitor), lambda: None)
    problems: list[str] = []
    write = follower._write

    def note(problem: str) -> None:
        problems.append(problem)
        write(problem)
        if len(problems) == 6:
            machine.kill()
            machine.wait()

    monkeypatch.setattr(follower, "_write", note)
    follower.run(5)
    assert problems == ["", "closed"] * 3
    assert monitor.lines.count("info usernet") == 3
    assert monitor.ports == {2222, 2376, 9001}


def test_follower_gives_up_if_the_first_connection_fails(
    tmp_path: Path, monitor: Monitor, machine: subprocess.Popen[bytes]
) -> None:
    requested = {**order(tmp_path, machine.pid), "line": ["sh", "-c", "echo denied >&2; exit 1"]}
    with pytest.raises(FollowerError, match="denied"):
        Follower(requested, forwards(monitor), lambda: None).run(0)


def test_line_without_an_end_ends_the_connection(
    tmp_path: Path, monitor: Monitor, machine: subprocess.Popen[bytes]
) -> None:
    requested = {**order(tmp_path, machine.pid), "line": ["sh", "-c", "yes | tr -d '\\n'"]}
    with pytest.raises(FollowerError, match="too long"):
        Follower(requested, forwards(monitor), lambda: None).run(0)


def test_controller_starts_one_follower_and_reads_its_record(
    tmp_path: Path, machine: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = host_record(spec=HostSpec(container_ports=True, ports=(8080,)), address=ADDRESS)
    monkeypatch.setattr(processes, "running", lambda: {record.uuid: machine.pid})
    text = container_ports.command_text().replace(
        'Monitor(order["uris"], order["uuid"])', "lambda line: ''"
    )
    monkeypatch.setattr(container_ports, "command_text", lambda: text)
    line = order(tmp_path, machine.pid, {"number": 1, "ports": [9001]})["line"]
    assert container_ports.state(tmp_path) == ((), container_ports.ENDED)
    assert container_ports.follow(record, tmp_path, ["test:///"], line, Deadline(20))
    assert not container_ports.follow(record, tmp_path, ["test:///"], line, Deadline(20))
    assert container_ports.state(tmp_path) == ((9001,), "")
    (tmp_path / "ports.json").write_text("{")
    assert container_ports.state(tmp_path) == ((), container_ports.MALFORMED)
    machine.kill()
    machine.wait()
    end = time.monotonic() + 10
    while container_ports.is_followed(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_controller_reports_the_problem_of_the_connection(
    tmp_path: Path, machine: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = host_record(spec=HostSpec(container_ports=True), address=ADDRESS)
    monkeypatch.setattr(processes, "running", lambda: {record.uuid: machine.pid})
    line = ["sh", "-c", "echo No module named stockyard_ports >&2; exit 1"]
    with pytest.raises(HypervisorError) as raised:
        container_ports.follow(record, tmp_path, ["test:///"], line, Deadline(1))
    assert raised.value.cause == "No module named stockyard_ports"
    assert "build the template again" in raised.value.remedy
    assert not container_ports.is_followed(tmp_path)
    monkeypatch.setattr(processes, "running", dict)
    with pytest.raises(HypervisorError, match="no QEMU process"):
        container_ports.follow(record, tmp_path, ["test:///"], line, Deadline(1))


def test_order_names_the_declared_ports_of_the_address(tmp_path: Path) -> None:
    spec = HostSpec(container_ports=True, ports=(8080,))
    own = container_ports.order(
        host_record(spec=spec, address=ADDRESS), os.getpid(), tmp_path, [], [], 1
    )
    assert (own["declared_ports"], own["fixed_ports"]) == ([8080], [2222, 2376])
    bound = HostSpec(container_ports=True, ports=(8080,), bind="192.0.2.1")
    elsewhere = container_ports.order(
        host_record(spec=bound, address=ADDRESS), os.getpid(), tmp_path, [], [], 1
    )
    assert elsewhere["declared_ports"] == []
