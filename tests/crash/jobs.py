# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of controllers: each with its preparation, the run that is killed, and the run that follows.

Jobs run in processes of their own, so everything in here can be pickled by name.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import stockyard
from stockyard import (
    BranchSpec,
    FleetSpec,
    HostSpec,
    ImageSpec,
    LeaseSpec,
    SingleSpec,
    TemplateSpec,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import SystemClock

SDK = str(Path(stockyard.__file__).parent)
HOUR, MOMENT = 3600.0, 2.0
GOLDEN = VolumeSpec("golden", size_gib=1)
HELD = LeaseSpec("job", "crash", duration=HOUR)
BRANCHED, CHILD = "crash-1", "shoot"


@dataclass(frozen=True)
class YardSettings:
    """The yard of a job.

    :param keep: whether its template takes too long to be built each time.
    :param size: how many hosts there are.
    :param guests: whether there are some: they need time to settle, and the true time for their
        certificates.
    """

    uri: str
    storage: str | None
    pki: str
    owner: str
    template: TemplateSpec
    keep: bool
    size: int
    guests: bool

    def open(self, ahead: float = 0.0) -> Yard:
        """A controller's own yard, its clock so many seconds ahead where that can be."""
        clock = SystemClock() if self.guests else Ahead(ahead)
        return Yard(self.uri, owner=self.owner, storage=self.storage, pki_dir=self.pki, clock=clock)

    def fleet(self, *ports: int) -> FleetSpec:
        """The fleet that is declared."""
        return FleetSpec("crash", self.template.name, self.size, host=HostSpec(ports=ports))


class Ahead(SystemClock):
    """The machine's clock, put forward; it sleeps little."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return time.time() + self.seconds

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.02))


@dataclass(frozen=True)
class Job:
    """One kind of work.

    :param prepare: what is there before it.
    :param act: the run that is killed.
    :param again: the run that follows, to its end.
    :param ports: those of the fleet that is declared then; nothing when no fleet is.
    :param ahead: how many seconds its controllers' clock is ahead, where there are no guests.
    :param volumes: those that there are then, by name, each with the host that has it.
    :param same_hosts: whether the hosts of the fleet stay, with the memory that they had.
    :param continues: the host that runs again soon after the kill; empty for none.
    :param length: how long it was on real guests, in lengths of UNIT: measured once, all on one
        machine.
    """

    prepare: Callable[[YardSettings, Yard], Any]
    act: Callable[[YardSettings, Yard], Any]
    rerun: Callable[[YardSettings, Yard], Any]
    ports: tuple[int, ...] | None = ()
    ahead: float = 0.0
    volumes: dict[str, str] = field(default_factory=dict)
    same_hosts: bool = False
    continues: str = ""
    length: float = 1.0


def nothing(settings: YardSettings, yard: Yard) -> None:
    """Begin with an empty yard, except a template that takes too long to build."""
    if settings.keep:
        yard.templates.apply(settings.template)


def made(settings: YardSettings, yard: Yard) -> None:
    """There is a fleet."""
    yard.templates.apply(settings.template)
    yard.fleets.apply(settings.fleet())


def leased(settings: YardSettings, yard: Yard) -> None:
    """One of its hosts is leased."""
    made(settings, yard)
    yard.leases.ensure(HELD)


def ended(settings: YardSettings, yard: Yard) -> None:
    """One of its hosts was leased."""
    made(settings, yard)
    yard.leases.ensure(replace(HELD, duration=MOMENT) if settings.guests else HELD)
    time.sleep(MOMENT if settings.guests else 0.0)


def with_another(settings: YardSettings, yard: Yard) -> None:
    """There is a fleet, and a host of its own."""
    made(settings, yard)
    yard.hosts.apply(SingleSpec("alone", settings.template.name))


def uses(*ports: int) -> HostSpec:
    """A host with a volume of its own, that is a copy."""
    return HostSpec(ports=ports, volumes=(VolumeUse("{host}-data", "/data", source="golden"),))


def with_volumes(settings: YardSettings, yard: Yard, *ports: int) -> None:
    """There is a fleet whose hosts have volumes."""
    yard.templates.apply(settings.template)
    yard.volumes.apply(GOLDEN)
    yard.fleets.apply(replace(settings.fleet(), host=uses(*ports)))


def hand_on(settings: YardSettings, yard: Yard) -> None:
    """Replace all hosts of it: each volume goes to the next of its host's name."""
    with_volumes(settings, yard, 8081)


def plugged(settings: YardSettings, yard: Yard) -> None:
    """There is a fleet, and one of its hosts is given a volume."""
    made(settings, yard)
    yard.volumes.apply(GOLDEN)
    yard.volumes.attach(VolumeSpec("kept", source="golden"), host="crash-1", path="/data")


def plug_and_drop(settings: YardSettings, yard: Yard) -> None:
    """Give it one, take it back, keep a snapshot, and delete it."""
    plugged(settings, yard)
    yard.volumes.detach("kept")
    yard.volumes.apply(VolumeSpec("kept-now", source="kept", snapshot=True))
    yard.volumes.delete("kept")


def derive(settings: YardSettings, yard: Yard) -> None:
    """Derive a template, and where that takes no time, another one from that."""
    levels = ((settings.template.name, "derived"), ("derived", "derived-twice"))
    for parent, name in levels[:1] if settings.guests else levels:
        image = ImageSpec(files={f"/etc/{name}": f"{name}\n"})
        yard.templates.apply(TemplateSpec(name, parent=parent, image=image))


def derive_and_drop(settings: YardSettings, yard: Yard) -> None:
    """Derive the same, and delete all of it, the parent first."""
    derive(settings, yard)
    for name in ("derived", "derived-twice"):
        yard.templates.delete(name)


def branch(settings: YardSettings, yard: Yard) -> None:
    """Branch a host of the fleet."""
    yard.hosts.branch(BranchSpec(BRANCHED, (CHILD,)))


def branch_and_drop(settings: YardSettings, yard: Yard) -> None:
    """Branch it, and delete the child."""
    branch(settings, yard)
    assert yard.hosts.get(CHILD).ready
    yard.hosts.delete(CHILD)


def roll(settings: YardSettings, yard: Yard) -> None:
    """Replace all hosts of the fleet."""
    yard.fleets.apply(settings.fleet(8081))


def suspended(settings: YardSettings, yard: Yard) -> None:
    """There is a fleet, and it is suspended."""
    made(settings, yard)
    suspend(settings, yard)


def suspend(settings: YardSettings, yard: Yard) -> None:
    """Suspend the fleet."""
    yard.fleets.suspend("crash")


def suspend_and_converge(settings: YardSettings, yard: Yard) -> None:
    """Suspend it, and have it as declared."""
    then_converge(suspend, settings, yard)


def lease(settings: YardSettings, yard: Yard) -> None:
    """Have a lease."""
    yard.leases.ensure(HELD)


def release(settings: YardSettings, yard: Yard) -> None:
    """Release the lease."""
    yard.leases.release_held(HELD, replace=True)


def reap(settings: YardSettings, yard: Yard) -> None:
    """Reap expired objects."""
    yard.reap(grace=0)


def tear_down(settings: YardSettings, yard: Yard) -> None:
    """Delete the whole yard."""
    yard.teardown(templates=not settings.keep)


def then_converge(
    act: Callable[[YardSettings, Yard], Any], settings: YardSettings, yard: Yard
) -> None:
    """The same, and then the fleet as declared."""
    act(settings, yard)
    made(settings, yard)


def release_and_converge(settings: YardSettings, yard: Yard) -> None:
    """Release the lease, and converge the fleet."""
    then_converge(release, settings, yard)


def reap_and_converge(settings: YardSettings, yard: Yard) -> None:
    """Reap expired objects, and converge the fleet."""
    then_converge(reap, settings, yard)


EACH = {"golden": "", **{f"crash-{n}-data": f"crash-{n}" for n in (1, 2, 3)}}
# The job that lengths of the others are told in.
UNIT = "create"
JOBS = {
    UNIT: Job(nothing, made, made),
    "replace": Job(made, roll, roll, ports=(8081,), length=4.3),
    "branch": Job(made, branch, branch_and_drop, same_hosts=True, continues=BRANCHED, length=2.0),
    "suspend": Job(made, suspend, suspend_and_converge, same_hosts=True, length=0.5),
    "resume": Job(suspended, made, made, same_hosts=True, length=0.5),
    "lease": Job(made, lease, lease, length=0.15),
    "release": Job(leased, release, release_and_converge, length=2.1),
    "reap": Job(ended, reap, reap_and_converge, ahead=2 * HOUR),
    "volumes": Job(nothing, with_volumes, with_volumes, volumes=EACH, length=2.5),
    "handing on": Job(with_volumes, hand_on, hand_on, ports=(8081,), volumes=EACH, length=4.5),
    "plugging": Job(
        made, plug_and_drop, plug_and_drop, volumes={"golden": "", "kept-now": ""}, length=2.0
    ),
    "derive": Job(made, derive, derive_and_drop, length=3.0),
    "teardown": Job(with_another, tear_down, tear_down, ports=None, length=1.6),
}


class Counter:
    """Counts what the SDK calls, in all threads, and kills this process at the last call that is
    allowed.
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = 0

    def watch(self) -> None:
        """Start counting. Earlier calls do not count."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def _event(self, frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(SDK):
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def run(settings: YardSettings, name: str, last: int, connection: Connection) -> None:
    """Do a job in this process. Tells when it begins, and how many calls it made when it ends.

    :param last: the call that it is killed at; 0 for none; less where calls are not counted.
    """
    job, counter = JOBS[name], Counter(last)
    with settings.open(job.ahead) as yard:
        connection.send("begin")
        if last >= 0:
            counter.watch()
        try:
            job.act(settings, yard)
        finally:
            sys.setprofile(None)
            with suppress(OSError):
                connection.send(counter.count)


def declared(settings: YardSettings, name: str) -> FleetSpec | None:
    """The fleet that is declared after a job."""
    job = JOBS[name]
    if job.ports is None:
        return None
    spec = settings.fleet(*job.ports)
    return replace(spec, host=uses(*job.ports)) if job.volumes is EACH else spec
