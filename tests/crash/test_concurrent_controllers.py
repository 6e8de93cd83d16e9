# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many controllers at once, and holders who come back too late."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec
from tests.crash import concurrent_controllers
from tests.crash.conftest import CONTEXT, CrashBench
from tests.helpers.simulated_machines import disk_of
from tests.helpers.tls_front import admits
from tests.helpers.values import present

CROWD = 20
PATIENCE = 600.0
HYPERVISORS = ["memory", pytest.param("libvirt", marks=[pytest.mark.real, pytest.mark.full])]
on_each = pytest.mark.parametrize("bench", HYPERVISORS, indirect=True)


@pytest.fixture(autouse=True)
def clear(bench: CrashBench) -> Iterator[None]:
    """Nothing is there before and after."""
    bench.clear()
    yield
    bench.clear()


def fleet(bench: CrashBench, count: int) -> None:
    """Have the template, and a fleet of so many."""
    with bench.settings.open() as yard:
        yard.templates.apply(bench.settings.template)
        if count:
            yard.fleets.apply(FleetSpec("crash", bench.settings.template.name, count))


def together(
    bench: CrashBench, work: Callable[..., None], arguments_of_each: list[tuple[Any, ...]]
) -> list[Any]:
    """Do a work in many processes that begin at one moment; what they tell."""
    pipes = []
    for number, arguments in enumerate(arguments_of_each):
        receiver, sender = CONTEXT.Pipe()
        process = CONTEXT.Process(target=work, args=(bench.settings, number, *arguments, sender))
        process.start()
        sender.close()
        pipes.append((receiver, process))
    for receiver, _process in pipes:
        assert receiver.poll(PATIENCE)
        assert receiver.recv() == "ready"
    for receiver, _process in pipes:
        receiver.send("go")
    answers = []
    for receiver, process in pipes:
        assert receiver.poll(PATIENCE)
        answers.append(receiver.recv())
        process.join(PATIENCE)
        assert process.exitcode == 0
        receiver.close()
    return answers


@on_each
def test_of_two_hundred_requests_each_host_serves_one(bench: CrashBench, tmp_path: Path) -> None:
    fleet(bench, 10)
    lease_answers = together(bench, concurrent_controllers.ask, [(str(tmp_path), 10)] * CROWD)
    assert Counter(answer for answers in lease_answers for answer in answers) == {
        "done": 10,
        "busy": 190,
    }
    with bench.settings.open() as yard:
        hosts = yard.hosts.list()
        holders = {h.uuid: present(h.lease).holder for h in hosts}
        assert len({present(h.lease).id for h in hosts}) == 10
    assert holders == {p.name: p.read_text() for p in tmp_path.iterdir()}


@on_each
def test_many_controllers_on_one_fleet_end_clean_or_busy(bench: CrashBench) -> None:
    fleet(bench, 0)
    answers = Counter(
        together(bench, concurrent_controllers.converge, [("crash", bench.settings.size)] * CROWD)
    )
    assert answers.keys() <= {"done", "busy"}
    assert answers["done"] >= 1
    with bench.settings.open() as yard:
        assert [h.name for h in yard.hosts.list()] == [
            f"crash-{n + 1}" for n in range(bench.settings.size)
        ]
        assert all(h.ready for h in yard.hosts.list())
        assert not yard.fleets.apply(bench.settings.fleet()).changed
        yard.reap(grace=0)
    assert bench.inventory()["locks"] == set()


@on_each
def test_many_controllers_on_fleets_of_their_own_all_end_clean(bench: CrashBench) -> None:
    fleet(bench, 0)
    names = [f"fleet-{n}" for n in range(CROWD)]
    assert Counter(
        together(bench, concurrent_controllers.converge, [(name, 1) for name in names])
    ) == {"done": CROWD}
    with bench.settings.open() as yard:
        fleets = yard.fleets.list()
        assert sorted(f.name for f in fleets) == sorted(names)
        assert {f.ready for f in fleets} == {1}
        assert len({h.address for h in yard.hosts.list()}) == CROWD


@on_each
def test_paused_holder_changes_nothing_after_the_end(bench: CrashBench) -> None:
    fleet(bench, 1)
    receiver, sender = CONTEXT.Pipe()
    process = CONTEXT.Process(
        target=concurrent_controllers.hold, args=(bench.settings, 3.0, sender)
    )
    process.start()
    sender.close()
    assert receiver.poll(PATIENCE)
    first = receiver.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    keys = Path(first["docker"]["environment"]["DOCKER_CERT_PATH"])
    content_before = {p.name: p.read_bytes() for p in keys.iterdir()}
    time.sleep(max(0.0, first["until"] - time.time()) + 0.1)
    with bench.settings.open() as yard:
        yard.fleets.apply(FleetSpec("crash", bench.settings.template.name, 1))
        second = yard.leases.acquire("crash", holder="second", duration=600)
        before = yard.hosts.list()
        os.kill(process.pid, signal.SIGCONT)
        receiver.send("go")
        assert receiver.poll(PATIENCE)
        assert receiver.recv() == ["over", "done", "over"]
        process.join(PATIENCE)
        strip = [replace(host, memory=None) for host in (*before, *yard.hosts.list())]
        assert strip[0] == strip[1]
        assert second.host == first["host"]
        if not bench.settings.keep:
            # The key of the first holder opens no later host of the same name.
            keys.mkdir()
            for name, data in content_before.items():
                (keys / name).write_bytes(data)
            (disk,) = (disk_of(h) for h in yard.hosts.list())
            assert not admits(disk, keys)
            assert admits(disk, Path(second.environment["DOCKER_CERT_PATH"]))


# Two hundred forks of real guests would take an hour.
@pytest.mark.full
@pytest.mark.parametrize("bench", ["memory"], indirect=True)
def test_two_hundred_leases_are_exclusive(bench: CrashBench, tmp_path: Path) -> None:
    fleet(bench, 10)
    spec = FleetSpec("crash", bench.settings.template.name, 10)
    pipes = []
    for number in range(CROWD):
        receiver, sender = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=concurrent_controllers.churn,
            args=(bench.settings, number, str(tmp_path), 10, sender),
        )
        process.start()
        sender.close()
        pipes.append(receiver)
    for receiver in pipes:
        assert receiver.recv() == "ready"
        receiver.send("go")
    with bench.settings.open() as yard:
        while any(not receiver.poll() for receiver in pipes):
            concurrent_controllers.outcome(lambda: yard.fleets.apply(spec))
    answers = [answer for receiver in pipes for answer in receiver.recv()]
    assert Counter(answers) == {"done": 200}
    assert len(list(tmp_path.iterdir())) == 200
