# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorities of tenants that are handed over, lost and rotated."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    GuestError,
    HostSpec,
    InvalidInput,
    Unsupported,
    Yard,
)
from stockyard.pki.authority import Authority
from tests.helpers.certificates import (
    ALONE,
    FLEET,
    Controllers,
    GuestFiles,
    assert_consistent,
    assert_same_host,
    file_contents,
    lose_authority,
    plan_lines,
)
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of
from tests.helpers.values import present


def test_controller_with_the_same_ca_changes_nothing(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    created_hosts = yard.fleets.apply(FLEET).objects
    second = controllers("empty", authority)
    assert not second.fleets.apply(FLEET, check=True).changed
    assert not (controllers.root / "empty").exists()
    result = second.fleets.apply(FLEET)
    assert not result.changed
    assert [h.identity for h in result.objects] == [h.identity for h in created_hosts]
    folder = controllers.folder("empty")
    assert (folder / "known_hosts").read_text().count("\n") == 2
    assert all(GuestFiles(h).admits(folder / "client") for h in created_hosts)
    assert not list(folder.rglob("ca-key*"))
    assert not any(
        authority.key_pem().encode() in content for content in file_contents(folder).values()
    )
    assert not yard.fleets.apply(FLEET).changed


def test_controller_with_declared_ca_creates_the_whole_yard(
    controllers: Controllers, clock: FakeClock
) -> None:
    authority_of_user = Authority.create("given", datetime.fromtimestamp(clock.now(), UTC))
    for host in controllers("empty", authority_of_user).fleets.apply(FLEET).objects:
        assert_consistent(host)
        assert GuestFiles(host).ca == authority_of_user.certificate


def test_template_contains_no_keys(yard: Yard, tmp_path: Path) -> None:
    yard.fleets.apply(FLEET)
    (template,) = yard.templates.list()
    assert not [
        p for p in disk_of(template).rglob("*") if p.suffix == ".pem" or "ssh_host" in p.name
    ]


def test_lost_ca_is_reported_and_nothing_is_written(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    lose_authority(controllers)
    before = file_contents(controllers.root)
    lost = "its tenant has no CA on this controller: a new CA will be created"
    assert [h.drift for h in yard.hosts.list()] == [(lost,), (lost,)]
    assert yard.fleets.list()[0].drift == {"ci-1": (lost,), "ci-2": (lost,)}
    dry = yard.fleets.apply(FLEET, check=True)
    assert [str(a) for a in dry.plan.actions] == [
        f"renew host ci-1: {lost}",
        f"renew host ci-2: {lost}",
    ]
    assert (
        dry.plan.diff()["before"]["host ci-1"]["authority"]
        == present(yard.hosts.list()[0].identity).authority
    )
    assert file_contents(controllers.root) == before


@pytest.mark.parametrize("how", ["rotated", "lost", "another"])
def test_running_hosts_trust_a_new_ca_after_a_run(
    yard: Yard, controllers: Controllers, how: str
) -> None:
    created_hosts = yard.fleets.apply(FLEET).objects
    old = controllers.folder("pki") / "client"
    heir, home = yard, "pki"
    if how == "rotated":
        lose_authority(controllers)
        old = old.rename(controllers.root / "old")
    elif how == "lost":
        heir, home = controllers("anew"), "anew"
    else:
        another = Authority.create("another", yard.context.today())
        heir, home = controllers("anew", another), "anew"
    result = heir.fleets.apply(FLEET)
    assert plan_lines(result) == ["renew ci-1", "renew ci-2"]
    for before, after in zip(created_hosts, result.objects, strict=True):
        assert_same_host(before, after)
        assert_consistent(after)
        assert present(after.identity).certificate != present(before.identity).certificate
        assert GuestFiles(after).admits(controllers.folder(home) / "client")
        assert not GuestFiles(after).admits(old)
        assert GuestFiles(after).keys.strip() == heir.context.pki("default").operator_key()
    assert not heir.fleets.apply(FLEET).changed
    is_reported = any("creating a new CA" in line for line in controllers.lines)
    assert is_reported == (how == "lost")


def test_new_ca_keeps_declared_authorized_keys(yard: Yard, controllers: Controllers) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"
    spec = replace(FLEET, host=HostSpec(authorized_keys=(key,)))
    yard.fleets.apply(spec)
    for host in controllers("anew").fleets.apply(spec).objects:
        assert GuestFiles(host).keys == key + "\n"


def test_single_host_trusts_a_new_ca_after_a_run(yard: Yard, controllers: Controllers) -> None:
    created_host = yard.hosts.apply(ALONE).objects[0]
    result = controllers("anew").hosts.apply(ALONE)
    assert plan_lines(result) == ["renew alone"]
    assert_same_host(created_host, result.objects[0])
    assert_consistent(result.objects[0])


def test_incomplete_ca_stops_every_run_and_is_reported(
    yard: Yard, controllers: Controllers
) -> None:
    yard.fleets.apply(FLEET)
    (controllers.folder("pki") / "ca-key.pem").unlink()
    before = file_contents(controllers.root)
    assert ["the CA is incomplete:" in h.drift[0] for h in yard.hosts.list()] == [True, True]
    for check in (True, False):
        with pytest.raises(InvalidInput, match="the CA is incomplete:"):
            yard.fleets.apply(FLEET, check=check)
    assert file_contents(controllers.root).items() >= before.items()
    yard.fleets.delete("ci")


def test_deletion_of_hosts_creates_no_ca(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.apply(ALONE)
    heir = controllers("anew")
    heir.fleets.delete("ci")
    heir.teardown()
    assert not (controllers.folder("anew") / "ca.pem").exists()


def test_failure_of_one_host_leaves_others_renewed_and_is_corrected_later(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    lose_authority(controllers)
    # After both were asked for their clocks.
    hypervisor.fail("channel", GuestError("silent"), call=3)
    with pytest.raises(GuestError, match="silent"):
        yard.fleets.apply(FLEET)
    assert sorted(len(h.drift) for h in yard.hosts.list()) == [0, 1]
    assert len(yard.fleets.apply(FLEET).plan.actions) == 1
    for host in yard.hosts.list():
        assert_consistent(host)


def test_renewal_without_record_is_completed_by_the_next_run(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    lose_authority(controllers)
    hypervisor.fail("claim", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        yard.hosts.apply(ALONE)
    assert plan_lines(yard.hosts.apply(ALONE)) == ["renew alone"]
    assert_consistent(yard.hosts.list()[0])


def test_host_without_a_recorded_ca_is_not_renewed(yard: Yard) -> None:
    yard.hosts.apply(ALONE)
    record = yard.context.provider.observe("stockyard").hosts[0].record
    assert record.identity
    yard.context.provider.claim(record, identity=replace(record.identity, authority=""))
    assert not yard.hosts.apply(ALONE).changed


def test_failed_renewal_is_an_error_with_a_remedy(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    lose_authority(controllers)
    hypervisor.tamper("hello", lambda answer: {**answer, "agent": 1})
    with pytest.raises(Unsupported, match="too old") as caught:
        yard.hosts.apply(ALONE)
    assert "replace the host" in caught.value.remedy


@pytest.mark.parametrize("answer", [{}, {"csr": None}, {"csr": "nonsense"}, {"uuid": "another"}])
def test_guest_with_malformed_reply_keeps_its_certificate(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider, answer: dict[str, Any]
) -> None:
    created_host = yard.hosts.apply(ALONE).objects[0]
    serial = GuestFiles(created_host).serial
    lose_authority(controllers)
    hypervisor.tamper(
        "hello" if "uuid" in answer else "csr", lambda genuine: {**genuine, "csr": 1, **answer}
    )
    with pytest.raises(GuestError):
        yard.hosts.apply(ALONE)
    assert GuestFiles(created_host).serial == serial
    assert yard.hosts.list()[0].identity == created_host.identity
