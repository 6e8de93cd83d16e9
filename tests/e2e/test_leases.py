# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of real guests: their certificates open one host, and a released host is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import Client, FleetSpec, HeldLease, LeaseExpired, TemplateInfo, Yard

from .conftest import Docker
from .test_pki_life import answers, own, refused

pytestmark = pytest.mark.real
SPEC = FleetSpec("lent", "docker", count=2, min_ready=1, max=3)
# Seconds: what the SDK takes for a host that is ready, with room for a machine that is busy.
QUICK = 1.0


@pytest.fixture(scope="module")
def lent(yard: Yard, template: TemplateInfo) -> Iterator[Yard]:
    """A separate fleet: a released host is deleted."""
    yard.fleets.apply(SPEC)
    yield yard
    yard.fleets.delete("lent")


def certificates(lease: HeldLease) -> Path:
    return Path(lease.environment["DOCKER_CERT_PATH"])


def test_a_lease_opens_one_host_and_ends_with_it(lent: Yard, docker: Docker) -> None:
    begin = time.monotonic()
    lease = lent.leases.acquire("lent", holder="e2e", duration=900)
    took = time.monotonic() - begin
    print(f"a lease of a ready host took {took:.3f} s")
    assert took < QUICK
    hosts = {h.name: h for h in lent.hosts.list(fleet="lent")}
    own_host, other_host = (
        hosts[lease.host],
        next(h for name, h in hosts.items() if name != lease.host),
    )
    assert answers(own_host, certificates(lease))
    assert refused(other_host, certificates(lease))
    assert answers(own_host, own(own_host))
    assert answers(other_host, own(other_host))
    host_name = docker(lease.info, "info", "--format", "{{.Name}}").stdout.decode().strip()
    assert host_name == lease.host
    lease.renew()
    assert answers(own_host, certificates(lease))
    uuid = own_host.uuid
    lease.release()
    assert uuid not in {h.uuid for h in lent.hosts.list()}
    assert [str(a) for a in lent.fleets.apply(SPEC).plan.actions] == [
        f"create host {lease.host}: the fleet has 1 of 2 hosts"
    ]


def test_after_the_end_nothing_opens_the_host_and_it_is_replaced(lent: Yard) -> None:
    lent.fleets.apply(SPEC)
    lease = lent.leases.acquire("lent", holder="e2e", duration=5)
    (host,) = lent.hosts.list(fleet="lent", name=lease.host)
    assert answers(host, certificates(lease))
    time.sleep(max(0.0, lease.until - time.time()) + 2)
    assert refused(host, certificates(lease))
    with pytest.raises(LeaseExpired):
        lease.renew()
    actions = [str(a) for a in lent.reap().plan.actions]
    assert f"delete host {lease.host}: its lease by e2e expired" in actions
    lent.fleets.apply(SPEC)
    fresh = next(h for h in lent.hosts.list(fleet="lent") if h.name == lease.host)
    assert fresh.uuid != host.uuid


def test_a_revoked_client_is_refused_and_a_lease_goes_on(lent: Yard) -> None:
    """A host that is admitted again keeps the CA of its leases."""
    lease = lent.leases.acquire("lent", holder="e2e", duration=900)
    (host,) = lent.hosts.list(fleet="lent", name=lease.host)
    lent.certificates.revoke(Client("lost-laptop"), serial="1f2e3d4c5b6a")
    end = time.monotonic() + 20
    while refused(host, certificates(lease)) and time.monotonic() < end:
        time.sleep(0.5)
    assert answers(host, certificates(lease))
    lease.release()
