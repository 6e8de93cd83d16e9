# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of many controllers at the same time, each in its own process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stockyard import Busy, Conflict, LeaseExpired, StockyardError, Yard
from tests.crash.jobs import YardSettings


def converge(
    settings: YardSettings, number: int, fleet: str, count: int, connection: Connection
) -> None:
    """Have a fleet; tell how it ended."""
    with settings.open() as yard:
        connection.send("ready")
        connection.recv()
        connection.send(
            outcome(lambda: yard.fleets.apply(replace(settings.fleet(), name=fleet, count=count)))
        )


def ask(
    settings: YardSettings, number: int, marks: str, requests: int, connection: Connection
) -> None:
    """Request leases; report how each request ended. Each holder marks its host once."""
    with settings.open() as yard:
        connection.send("ready")
        connection.recv()
        connection.send(
            [
                outcome(partial(mark, yard, f"job-{number}-{turn}", marks, 0.0))
                for turn in range(requests)
            ]
        )


def churn(
    settings: YardSettings, number: int, marks: str, requests: int, connection: Connection
) -> None:
    """Acquire and release hosts, one after the other; report how each attempt ended."""

    def turn(index: int) -> None:
        mark(yard, f"job-{number}-{index}", marks, 120.0).release()

    with settings.open() as yard:
        connection.send("ready")
        connection.recv()
        connection.send([outcome(partial(turn, index)) for index in range(requests)])


def mark(yard: Yard, holder: str, marks: str, wait: float) -> Any:
    """Acquire a host and mark it; fail if it is marked already."""
    lease = yard.leases.acquire("crash", holder=holder, duration=3600, wait=wait)
    (uuid,) = (
        h.uuid for h in yard.hosts.list(name=lease.host) if h.lease and h.lease.id == lease.id
    )
    with (Path(marks) / uuid).open("x") as file:
        file.write(holder)
    return lease


def outcome(act: Any) -> str:
    """Return ``done`` or the kind of error; other exceptions are returned as text."""
    try:
        act()
    except Busy:
        return "busy"
    except Conflict as error:
        return f"conflict: {error}"
    except StockyardError as error:
        return f"failed: {error}"
    except Exception as error:  # noqa: BLE001  # shown by the assertion
        return f"strange: {error!r}"
    return "done"


def hold(settings: YardSettings, seconds: float, connection: Connection) -> None:
    """Acquire a host, wait for a message, then act as if it were still leased."""
    with settings.open() as yard:
        lease = yard.leases.acquire("crash", holder="first", duration=seconds)
        connection.send(lease.info.to_dict())
        connection.recv()
        tries = []
        for act in (lease.renew, lease.release, lambda: yard.leases.renew(lease.id, 600)):
            try:
                act()
                tries.append("done")
            except LeaseExpired:
                tries.append("over")
        connection.send(tries)
