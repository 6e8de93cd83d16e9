# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a host hardly notice that it is branched, and no frame leaves a child before it has
its own identity.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from stockyard import BranchSpec, HostInfo, SingleSpec, TemplateInfo, Yard
from stockyard.model.host import HostRecord
from stockyard.providers.libvirt import branch_source
from stockyard.providers.libvirt.monitor import Monitor
from tests.helpers.machine_pauses import Pauses, session_uri

from .branched_hosts import ExecSession, Pings, leftovers, libvirt_of, start_counter
from .conftest import WORK, Docker
from .test_identity_before_network import FILE_HEADER, frames

pytestmark = [pytest.mark.real, pytest.mark.full]
PARENT, CHILD = "trunk-5", "shoot-5"
# Milliseconds for which Docker may not answer because of the branch.
GAP = 300.0
# Seconds before and after a branch in which clients are watched.
AROUND = 3.0


@pytest.fixture
def parent(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> Iterator[HostInfo]:
    """A host in which a container counts."""
    host = yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    start_counter(docker, host, busybox)
    yield host
    for name in (PARENT, CHILD):
        yard.hosts.delete(name)
    assert leftovers(yard) == set()


def stops_first(yard: Yard, host: HostInfo) -> bool:
    """Whether a host is stopped while its memory is copied."""
    domain = libvirt_of(yard).connection.lookupByUUIDString(host.uuid)
    return branch_source.misses_writes(Monitor(domain, host.name))


def test_clients_of_the_parent_see_a_short_gap(
    yard: Yard, docker: Docker, parent: HostInfo
) -> None:
    pauses, session = Pauses(session_uri(yard), parent.uuid), ExecSession(docker, parent)
    with Pings(parent) as pings, session as echoes:
        time.sleep(AROUND)
        begin = time.monotonic()
        yard.hosts.branch(BranchSpec(PARENT, (CHILD,)))
        end = time.monotonic()
        time.sleep(AROUND)
    assert session.received == session.sent
    assert min(pings.times[-1], echoes.times[-1]) > end
    pause, moments = pauses.milliseconds(), dict(pauses.events)
    stopped = time.monotonic() - (time.time() - moments["STOP"])
    gap = pings.gap_ms(stopped - 1, stopped + pause / 1000 + 1)
    print(
        f"\nSTOP to RESUME {pause:.0f} ms; gap of pings {gap:.0f} ms, in the whole branch "
        f"{pings.gap_ms(begin, end):.0f} ms, before it {pings.gap_ms(0, begin):.0f} ms, of an open "
        f"session {echoes.gap_ms(begin, end):.0f} ms; branch and child {end - begin:.1f} s"
    )
    assert gap < GAP + (pause if stops_first(yard, parent) else 0.0)


def test_no_frame_leaves_a_child_before_its_identity(
    yard: Yard, parent: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = WORK / "child.pcap"
    capture.unlink(missing_ok=True)
    provider: Any = libvirt_of(yard)
    start, set_link = provider.branches._start, provider.set_link
    at_identity: list[int] = []

    def tapped(definition: Any, title: str) -> Any:
        domain = start(definition, title)
        if title == f"host {CHILD}":
            tap: dict[str, Any] = {
                "qom-type": "filter-dump",
                "id": "tap",
                "netdev": "net0",
                "file": str(capture),
            }
            Monitor(domain, title).command("object-add", **tap)
        return domain

    def noted(record: HostRecord, up: bool) -> None:
        if record.name == CHILD:
            at_identity.append(capture.stat().st_size)
        set_link(record, up)

    monkeypatch.setattr(provider.branches, "_start", tapped)
    monkeypatch.setattr(provider, "set_link", noted)
    # A client that is connected to the parent: its connection is in the memory of the child too.
    with Pings(parent):
        child = yard.hosts.branch(BranchSpec(PARENT, (CHILD,))).object
    yard.hosts.delete(CHILD)
    assert at_identity == [FILE_HEADER], "the child sent something before its link came up"
    captured = frames(capture.read_bytes())
    senders = {frame[6:12].hex(":") for frame in captured}
    assert child.mac in senders, "the capture is empty: the test would prove nothing"
    assert all(bytes.fromhex(parent.mac.replace(":", "")) not in frame for frame in captured)
