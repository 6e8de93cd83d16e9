# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of hosts and operators that are renewed before they expire."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard import (
    GuestError,
    InvalidInput,
    StockyardError,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.pki.authority import SERVER_DAYS, Authority
from tests.helpers.certificates import (
    ALONE,
    DAY,
    FLEET,
    Controllers,
    assert_consistent,
    assert_same_host,
    lose_authority,
    plan_lines,
)
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of, has_link
from tests.helpers.values import present


def test_certificate_is_renewed_when_a_third_of_its_life_is_left(
    yard: Yard, clock: FakeClock
) -> None:
    created_hosts = yard.fleets.apply(FLEET).objects
    clock.time += (SERVER_DAYS * 2 / 3 - 1) * DAY
    assert not yard.fleets.apply(FLEET).changed
    clock.time += 2 * DAY
    end = datetime.fromtimestamp(present(created_hosts[0].identity).not_after, UTC)
    reason = f"its certificate ends on {end:%Y-%m-%d}"
    assert yard.hosts.list()[0].drift == (reason,)
    dry = yard.fleets.apply(FLEET, check=True)
    assert [a.reason for a in dry.plan.actions] == [reason] * 2
    result = yard.fleets.apply(FLEET)
    assert plan_lines(result) == ["renew ci-1", "renew ci-2"]
    for before, after in zip(created_hosts, result.objects, strict=True):
        assert_same_host(before, after)
        assert_consistent(after)
        assert present(after.identity).not_after == pytest.approx(
            clock.time + SERVER_DAYS * DAY, abs=1
        )
    assert not yard.fleets.apply(FLEET).changed


def test_host_with_another_key_is_not_certified(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    created_host = yard.hosts.apply(ALONE).objects[0]
    key_path = disk_of(created_host) / "var/lib/stockyard/tls/key.pem"
    own_key = key_path.read_text()
    key = ec.generate_private_key(ec.SECP256R1())
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    clock.time += 300 * DAY
    with pytest.raises(GuestError, match="another key than its own"):
        yard.hosts.apply(ALONE)
    assert yard.hosts.list()[0].identity == created_host.identity
    key_path.write_text(own_key)
    assert plan_lines(yard.hosts.apply(ALONE)) == ["renew alone"]


def test_host_of_an_earlier_version_gets_its_key_recorded(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    record = hypervisor.observe("stockyard").hosts[0].record
    key = present(record.identity).key
    assert len(key) == 64
    hypervisor.claim(record, identity=replace(present(record.identity), key=""))
    clock.time += 300 * DAY
    assert plan_lines(yard.hosts.apply(ALONE)) == ["renew alone"]
    assert present(hypervisor.observe("stockyard").hosts[0].record.identity).key == key


def test_certificate_that_ends_with_its_ca_is_not_renewed_repeatedly(
    yard: Yard, controllers: Controllers, clock: FakeClock, authority: Authority
) -> None:
    # 100 days before the end of the CA: no certificate outlives it.
    clock.time = authority.certificate.not_valid_after_utc.timestamp() - 100 * DAY
    yard.fleets.apply(FLEET)
    clock.time += 50 * DAY
    assert not yard.fleets.apply(FLEET).changed
    clock.time += 51 * DAY
    assert "the CA expired on" in yard.hosts.list()[0].drift[0]
    with pytest.raises(InvalidInput, match="the CA expired on") as caught:
        yard.fleets.apply(FLEET)
    assert "new certificates" in caught.value.remedy
    lose_authority(controllers)
    assert plan_lines(yard.fleets.apply(FLEET)) == ["renew ci-1", "renew ci-2"]


def test_stopped_host_is_renewed_before_its_link_is_up(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    created_host = yard.hosts.apply(ALONE).objects[0]
    record = yard.context.provider.observe("stockyard").hosts[0].record
    hypervisor.stop(record, Deadline(1))
    clock.time += 300 * DAY
    assert plan_lines(yard.hosts.apply(ALONE, check=True)) == ["start alone", "renew alone"]
    hypervisor.fail("set_link", StockyardError("cut here"))
    with pytest.raises(StockyardError, match="cut here"):
        yard.hosts.apply(ALONE)
    assert_consistent(yard.hosts.list()[0])
    assert not has_link(hypervisor, hypervisor.observe("stockyard").hosts[0].record)
    assert (
        present(yard.hosts.list()[0].identity).certificate
        != present(created_host.identity).certificate
    )


def test_start_renewal_and_labels_of_one_host_are_applied_in_one_run(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    for observed_host in yard.context.provider.observe("stockyard").hosts:
        hypervisor.stop(observed_host.record, Deadline(1))
    clock.time += 300 * DAY
    result = yard.fleets.apply(replace(FLEET, labels={"a": "1"}))
    assert plan_lines(result) == [
        f"{verb} ci-{n}" for n in (1, 2) for verb in ("start", "renew", "relabel")
    ]
    for host in result.objects:
        assert_consistent(host)
        assert host.labels == {"a": "1"}
        assert host.state == "running"


def test_restart_renews_a_due_certificate(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(ALONE)
    clock.time += 300 * DAY
    result = yard.hosts.restart("alone")
    assert plan_lines(result) == ["restart alone", "renew alone"]
    assert_consistent(result.objects[0])


def test_unchanged_run_renews_the_operators_due_certificate(
    yard: Yard, controllers: Controllers, clock: FakeClock
) -> None:
    yard.fleets.apply(FLEET)
    before = (controllers.folder("pki") / "client/cert.pem").read_bytes()
    clock.time += 80 * DAY
    assert not yard.fleets.apply(FLEET).changed
    assert (controllers.folder("pki") / "client/cert.pem").read_bytes() != before
