# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases over the memory hypervisor: one holder a host, fenced by time and by certificate."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from stockyard import (
    Busy,
    Conflict,
    FleetSpec,
    HostSpec,
    HypervisorError,
    InvalidInput,
    LeaseExpired,
    LeaseInfo,
    LeaseSpec,
    NotFound,
    OperationRefused,
    StockyardError,
    TemplateSpec,
    Yard,
)
from stockyard.model.host import HostRecord
from stockyard.model.lease import Lease
from stockyard.pki.store import Pki
from stockyard.resources.leases import lease_lifecycle
from tests.helpers.clocks import BriskClock, FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of
from tests.helpers.tls_front import admits
from tests.helpers.values import present

FLEET = FleetSpec("ci", "base", count=2)
ASKED = LeaseSpec("me", "ci", duration=600.0)


@pytest.fixture
def fleet(yard: Yard) -> Yard:
    """A yard with two hosts."""
    yard.fleets.apply(FLEET)
    return yard


def records(yard: Yard) -> list[HostRecord]:
    current_records = [h.record for h in yard.context.provider.observe("stockyard").hosts]
    return sorted(current_records, key=lambda r: r.name)


def folder(facts: LeaseInfo) -> Path:
    return Path(facts.docker.environment["DOCKER_CERT_PATH"])


def certificate(facts: LeaseInfo) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder(facts) / "cert.pem").read_bytes())


def test_a_lease_is_on_record_with_its_certificate(fleet: Yard, clock: FakeClock) -> None:
    lease = fleet.leases.acquire("ci", holder="me", duration="10m")
    (facts,) = fleet.leases.list()
    assert facts == lease.info
    assert (facts.holder, facts.until, facts.ended) == ("me", clock.now() + 600, False)
    lease_certificate = certificate(facts)
    assert f"{lease_certificate.serial_number:x}" == facts.certificate
    assert lease_certificate.not_valid_after_utc.timestamp() == facts.until
    assert (folder(facts) / "key.pem").stat().st_mode & 0o777 == 0o600
    (host,) = fleet.hosts.list(name=lease.host)
    assert present(host.lease).id == lease.id
    assert fleet.fleets.list()[0].leased == 1
    assert lease.environment["DOCKER_HOST"] == host.docker.endpoint


@pytest.mark.parametrize("holder", ["ü" * 100, "a" * 100, "🐮" * 100, 'o="x", CN=operator', "-"])
def test_a_holder_may_be_called_anything(fleet: Yard, holder: str) -> None:
    lease = fleet.leases.acquire("ci", holder=holder)
    (name,) = certificate(lease.info).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert holder.startswith(str(name.value))
    assert fleet.leases.list()[0].holder == holder


def test_every_call_takes_another_host_until_none_is_free(fleet: Yard) -> None:
    leased_names = {fleet.leases.acquire("ci", holder="me").host for _number in range(2)}
    assert leased_names == {"ci-1", "ci-2"}
    with pytest.raises(Busy, match="leased by me"):
        fleet.leases.acquire("ci", holder="me")
    with pytest.raises(NotFound, match="no host matches"):
        fleet.leases.acquire("web", holder="me")


def test_request_waits_for_a_free_host(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _number in range(2):
        fleet.leases.acquire("ci", holder="me", duration=30)
    calls: list[float] = []

    def sleep(seconds: float) -> None:
        clock.time += seconds
        calls.append(seconds)
        if len(calls) == 3:
            fleet.fleets.apply(replace(FLEET, count=3))

    monkeypatch.setattr(clock, "sleep", sleep)
    assert fleet.leases.acquire("ci", holder="late", wait=10).host
    with pytest.raises(Busy):
        fleet.leases.acquire("ci", holder="later", wait=5)
    assert sum(calls) < 10


def test_released_means_destroyed_and_replaced(fleet: Yard) -> None:
    before = {r.uuid for r in records(fleet)}
    with fleet.leases.acquire("ci", holder="me") as lease:
        path = folder(lease.info)
        leased_uuid = next(r.uuid for r in records(fleet) if r.name == lease.host)
    assert {r.uuid for r in records(fleet)} == before - {leased_uuid}
    assert not path.exists()
    fleet.fleets.apply(FLEET)
    assert len(records(fleet)) == 2
    assert leased_uuid not in {r.uuid for r in records(fleet)}


def test_lease_creates_a_host_on_request(fleet: Yard) -> None:
    with fleet.leases.acquire("ci", holder="me", replace=True) as lease:
        old = next(r for r in records(fleet) if r.name == lease.host)
    new = next(r for r in records(fleet) if r.name == old.name)
    assert new.uuid != old.uuid
    assert (new.spec, new.fleet, new.lease, new.phase) == (old.spec, "ci", None, "ready")


@pytest.mark.parametrize("check", [True, False])
def test_number_that_was_never_given_is_not_released(fleet: Yard, check: bool) -> None:
    with Yard(
        provider=fleet.context.provider, owner="other", clock=fleet.context.clock
    ) as other_yard:
        other_yard.templates.apply(TemplateSpec("base"))
        other_yard.fleets.apply(FLEET)
        number = other_yard.leases.acquire("ci", holder="me").id
    own_id = fleet.leases.acquire("ci", holder="me").id
    before = records(fleet)
    for wrong in (
        number,
        "11111111-2222-4333-8444-555555555555",
        own_id.upper(),
        own_id[:-1],
        "",
        "../..",
        "x" * 5000,
    ):
        with pytest.raises(
            NotFound, match=r"the yard has no lease with this number.*owner stockyard"
        ) as refused:
            fleet.leases.release(wrong, check=check)
        assert "list of leases" in refused.value.remedy
        assert len(str(refused.value)) < 500
        with pytest.raises(NotFound, match="the yard has no lease with this number"):
            fleet.leases.renew(wrong, 60, check=check)
    assert records(fleet) == before


def test_number_that_was_given_is_released_twice_on_any_controller(
    fleet: Yard, tmp_path: Path
) -> None:
    lease = fleet.leases.acquire("ci", holder="me")
    assert fleet.leases.release(lease.id).changed
    with Yard(
        provider=fleet.context.provider,
        pki_dir=str(tmp_path / "elsewhere"),
        clock=fleet.context.clock,
    ) as yard:
        assert not yard.leases.release(lease.id, check=True).changed
        assert not yard.leases.release(lease.id).changed


def test_parallel_requests_create_no_host_twice(fleet: Yard, hypervisor: FaultyProvider) -> None:
    lines: list[str] = []
    yard = Yard(
        provider=hypervisor.as_provider(),
        clock=fleet.context.clock,
        progress=lines.append,
        pki_dir=str(fleet.context.pki("default").directory.parents[1]),
    )
    lease = yard.leases.acquire("ci", holder="me", replace=True)
    with fleet.context.provider.exclusive("stockyard.default.fleet.ci", fleet.context.deadline(1)):
        lease.release()
    assert len(records(fleet)) == 1
    assert any("locked by another controller" in line for line in lines)


def test_renewal_extends_the_lease(fleet: Yard, clock: FakeClock) -> None:
    lease = fleet.leases.acquire("ci", holder="me", duration=600)
    first = certificate(lease.info)
    clock.time += 500
    lease.renew()
    assert lease.until == clock.now() + 600
    second = certificate(lease.info)
    assert second.not_valid_after_utc.timestamp() == lease.until
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()
    lease.renew("1h")
    assert lease.until == clock.now() + 3600
    # Its certificate is out: it cannot be taken back.
    lease.renew("1m")
    assert lease.until == clock.now() + 3600


def test_expired_holder_changes_nothing(fleet: Yard, clock: FakeClock) -> None:
    lease = fleet.leases.acquire("ci", holder="slow", duration=60)
    clock.time += 60
    before = records(fleet)
    with pytest.raises(LeaseExpired, match="it ended at"):
        lease.renew()
    assert not fleet.leases.release(lease.id).changed
    assert records(fleet) == before
    fleet.fleets.apply(FLEET)
    other_leases = [fleet.leases.acquire("ci", holder="other") for _number in range(2)]
    before = records(fleet)
    assert lease.host in {o.host for o in other_leases}
    with pytest.raises(LeaseExpired, match="no host has this lease"):
        lease.renew()
    lease.release()
    assert records(fleet) == before


def test_renewal_that_is_paused_beyond_the_end_fails(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = fleet.leases.acquire("ci", holder="slow", duration=60)
    provider, path = fleet.context.provider, folder(lease.info)
    before, claim = (path / "cert.pem").read_text(), provider.claim

    def stopped(record: Any, **changes: Any) -> Any:
        claimed = claim(record, **changes)
        clock.time += 100
        return claimed

    monkeypatch.setattr(provider, "claim", stopped, raising=False)
    with pytest.raises(LeaseExpired):
        lease.renew()
    monkeypatch.undo()
    assert (path / "cert.pem").read_text() == before
    (facts,) = fleet.leases.list()
    assert facts.ended


def test_lease_in_release_is_not_renewed(fleet: Yard, hypervisor: FaultyProvider) -> None:
    lease = fleet.leases.acquire("ci", holder="me")
    hypervisor.fail("destroy", HypervisorError("no"))
    with pytest.raises(HypervisorError):
        lease.release()
    assert fleet.leases.list()[0].ended
    with pytest.raises(LeaseExpired):
        lease.renew()
    with pytest.raises(Busy, match="it is deleting"):
        [fleet.leases.acquire("ci", holder="other") for _number in range(2)]
    lease.release()
    assert len(records(fleet)) == 1


def test_interrupted_release_leaves_no_key_without_a_record(
    fleet: Yard, hypervisor: FaultyProvider
) -> None:
    lease = fleet.leases.acquire("ci", holder="me", duration=600)
    hypervisor.fail("destroy", HypervisorError("killed."), after=True)
    with pytest.raises(HypervisorError):
        lease.release()
    assert not Path(lease.environment["DOCKER_CERT_PATH"]).exists()


def test_a_conflict_is_tried_again_and_another_host_is_taken(
    fleet: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.fail("claim", Conflict("changed"))
    lease = fleet.leases.acquire("ci", holder="me")
    hypervisor.fail("claim", Conflict("changed"))
    lease.renew()
    hypervisor.fail("claim", Conflict("changed"))
    lease.release()
    assert len(records(fleet)) == 1


def test_a_lease_without_its_key_is_not_taken(
    fleet: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pki/stockyard/default/leases").write_text("a file where a directory belongs")
    with pytest.raises(StockyardError, match="the directory for keys cannot be used"):
        fleet.leases.acquire("ci", holder="me")
    assert [r.lease for r in records(fleet)] == [None, None]


def fail_to_keep(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the directory of keys become full after the claim; return the numbers of the leases."""
    numbers: list[str] = []

    def keep_lease(_pki: Pki, lease: str, *_arguments: Any) -> Path:
        numbers.append(lease)
        raise StockyardError("the disk is full.")

    monkeypatch.setattr(Pki, "keep_lease", keep_lease)
    return numbers


def test_lease_whose_key_cannot_be_written_after_the_claim_is_given_back(
    fleet: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        numbers = fail_to_keep(patched)
        hypervisor.calls.clear()
        with pytest.raises(StockyardError, match="the disk is full"):
            fleet.leases.acquire("ci", holder="me")
    # The host was claimed, and the claim was taken back.
    assert len(numbers) == 1
    assert hypervisor.calls["claim"] == 2
    assert [record.lease for record in records(fleet)] == [None, None]
    holders = {fleet.leases.acquire("ci", holder=name).host for name in ("a", "b")}
    assert len(holders) == 2


def test_renewal_whose_key_cannot_be_written_keeps_the_previous_lease(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = fleet.leases.acquire("ci", holder="me", duration=600)
    (before,) = [record.lease for record in records(fleet) if record.lease]
    clock.time += 60
    with monkeypatch.context() as patched:
        fail_to_keep(patched)
        with pytest.raises(StockyardError, match="the disk is full"):
            lease.renew(3600)
    assert [record.lease for record in records(fleet) if record.lease] == [before]


def test_without_the_ca_nothing_is_leased(
    fleet: Yard, hypervisor: FaultyProvider, tmp_path: Path
) -> None:
    with (
        Yard(provider=hypervisor.as_provider(), pki_dir=str(tmp_path / "empty")) as stranger,
        pytest.raises(OperationRefused, match="the tenant has no CA"),
    ):
        stranger.leases.acquire("ci", holder="me")


def test_hosts_are_leased_after_they_know_the_rotated_ca(
    fleet: Yard, tmp_path: Path, clock: FakeClock
) -> None:
    lease = fleet.leases.acquire("ci", holder="me")
    for part in ("ca.pem", "ca-key.pem"):
        (tmp_path / "pki/stockyard/default" / part).unlink()
    fleet.context.pki("default").authority(fleet.context.today())
    with pytest.raises(Busy, match="it trusts a different CA"):
        fleet.leases.acquire("ci", holder="other")
    fleet.fleets.apply(FLEET)
    assert fleet.leases.acquire("ci", holder="other").host != lease.host
    lease.renew()
    assert (
        certificate(lease.info).issuer.rfc4514_string()
        == f"CN=stockyard leases {host_of(fleet, lease.host).uuid}"
    )


def host_of(yard: Yard, name: str) -> HostRecord:
    return next(r for r in records(yard) if r.name == name)


def test_a_holder_has_one_lease_of_a_fleet(fleet: Yard, clock: FakeClock) -> None:
    first = fleet.leases.ensure(ASKED, check=True)
    assert [str(a) for a in first.plan.actions] == ["lease host of fleet ci: me requests a lease"]
    assert records(fleet) == [replace(r, lease=None) for r in records(fleet)]
    first_result = fleet.leases.ensure(ASKED)
    second_result = fleet.leases.ensure(ASKED)
    assert (first_result.changed, second_result.changed) == (True, False)
    assert second_result.objects == first_result.objects
    clock.time += 100
    dry = fleet.leases.ensure(ASKED, renew=True, check=True)
    longer = fleet.leases.ensure(ASKED, renew=True)
    assert dry.plan == longer.plan
    assert longer.objects[0].until == clock.now() + 600
    assert longer.objects[0].id == first_result.objects[0].id
    assert fleet.leases.release_held(ASKED, check=True).changed
    assert fleet.leases.release_held(ASKED).changed
    assert not fleet.leases.release_held(ASKED).changed


def test_another_home_gets_a_key_of_its_own(
    fleet: Yard, hypervisor: FaultyProvider, tmp_path: Path
) -> None:
    created_lease = fleet.leases.ensure(ASKED).objects[0]
    ca = fleet.context.pki("default").authority(fleet.context.today())
    with Yard(
        provider=hypervisor.as_provider(),
        clock=fleet.context.clock,
        pki_dir=str(tmp_path / "other"),
        ca_certificate=ca.pem(),
        ca_private_key=ca.key_pem(),
    ) as other_yard:
        result = other_yard.leases.ensure(ASKED)
        assert [a.verb for a in result.plan.actions] == ["issue"]
        assert result.objects[0].until == created_lease.until
        assert (folder(result.objects[0]) / "key.pem").exists()
        assert not other_yard.leases.ensure(ASKED).changed


@pytest.mark.parametrize("duration", [0, -5, "soon", 1e9])
def test_nothing_is_renewed_for_nonsense(fleet: Yard, duration: Any) -> None:
    lease = fleet.leases.acquire("ci", holder="me")
    before = records(fleet)
    with pytest.raises(InvalidInput, match="duration"):
        fleet.leases.renew(lease.id, duration)
    assert records(fleet) == before


def test_warm_spares_are_kept(yard: Yard) -> None:
    spec = FleetSpec("ci", "base", count=0, min_ready=2, max=3)
    yard.fleets.apply(spec)
    taken_leases = [yard.leases.acquire("ci", holder="me") for _number in range(2)]
    yard.fleets.apply(spec)
    assert len(records(yard)) == 3
    taken_leases.append(yard.leases.acquire("ci", holder="me"))
    assert not yard.fleets.apply(spec).changed
    taken_leases[0].release()
    assert yard.fleets.apply(spec).changed
    assert sum(r.lease is None for r in records(yard)) == 1
    for lease in taken_leases[1:]:
        lease.release()
    yard.fleets.apply(spec)
    assert len(records(yard)) == 2
    assert not yard.fleets.apply(spec).changed


def test_hosts_whose_time_is_over_are_replaced(yard: Yard, clock: FakeClock) -> None:
    spec = FleetSpec("ci", "base", count=2, ttl=3600.0)
    yard.fleets.apply(spec)
    before = records(yard)
    assert [r.expires for r in before] == [r.created + 3600 for r in before]
    clock.time += 3599
    assert not yard.fleets.apply(spec).changed
    lease = yard.leases.acquire("ci", holder="me")
    clock.time += 1
    result = yard.fleets.apply(spec)
    assert [a.reason for a in result.plan.actions if a.verb == "delete"] == [
        "its time to live ended"
    ]
    assert host_of(yard, lease.host).lease is not None
    assert len(records(yard)) == 2
    member = next(r for r in records(yard) if r.lease is None)
    yard.hosts.replace(member.name)
    fresh = host_of(yard, member.name)
    assert fresh.expires == fresh.created + 3600


def test_parallel_requests_get_different_hosts(uri: str, tmp_path: Path) -> None:
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=4))
    got: list[str] = []

    def ask(number: int) -> None:
        with Yard(uri, pki_dir=str(tmp_path / "pki")) as own_yard:
            try:
                got.append(own_yard.leases.acquire("ci", holder=f"job-{number}").host)
            except Busy:
                got.append("")

    together([lambda n=n: ask(n) for n in range(12)])  # type: ignore[misc]
    assert Counter(got) == {"": 8, "ci-1": 1, "ci-2": 1, "ci-3": 1, "ci-4": 1}


def test_parallel_requests_of_one_holder_get_one_host(uri: str, tmp_path: Path) -> None:
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=4))
    got: list[str] = []

    def ask() -> None:
        with Yard(uri, pki_dir=str(tmp_path / "pki")) as own_yard:
            got.append(own_yard.leases.ensure(ASKED).objects[0].id)

    together([ask] * 4)
    assert len(got) == 4
    assert len(set(got)) == 1


def together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_leases_certificate_opens_its_own_host_and_no_other(uri: str, tmp_path: Path) -> None:
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        lease = yard.leases.acquire("ci", holder="me", duration=2)
        lease_folder, operator = folder(lease.info), yard.context.pki("default").client_directory
        disks = {h.name: disk_of(h) for h in yard.hosts.list()}
        assert {name for name, disk in disks.items() if admits(disk, lease_folder)} == {lease.host}
        assert all(admits(disk, operator) for disk in disks.values())
        while time.time() < lease.until + 1:
            time.sleep(0.1)
        assert not any(admits(disk, lease_folder) for disk in disks.values())


def test_keys_of_one_host_open_no_other(uri: str, tmp_path: Path) -> None:
    """An attacker on one host has its files, and the holder's key. The CA of its leases is public
    there.
    """
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        lease = yard.leases.acquire("ci", holder="me")
        disks = {h.name: disk_of(h) for h in yard.hosts.list()}
        (other_disk,) = (disk for name, disk in disks.items() if name != lease.host)
        tls = disks[lease.host] / "var/lib/stockyard/tls"
        # The server's own certificate, shown as a client's.
        assert not admits(other_disk, tls)
        loot = b"".join(
            p.read_bytes()
            for p in disks[lease.host].rglob("*")
            if p.is_file() and not p.is_symlink()
        )
        ca = yard.context.pki("default").authority(yard.context.today())
        leases_ca = ca.of_leases(host_of(yard, lease.host).uuid, yard.context.today())
        for secret in (
            ca.key_pem(),
            leases_ca.key_pem(),
            (folder(lease.info) / "key.pem").read_text(),
        ):
            assert secret.strip().splitlines()[1].encode() not in loot


def test_lease_ca_of_a_host_is_the_same_on_each_controller(yard: Yard) -> None:
    now = yard.context.today()
    ca = yard.context.pki("default").authority(now)
    first, repeated, other_authority = (ca.of_leases(host, now) for host in ("a", "a", "b"))
    assert first.key_pem() == repeated.key_pem()
    assert first.key_pem() != other_authority.key_pem()
    assert first.key_pem() != ca.key_pem()
    assert first.certificate.issuer == first.certificate.subject != ca.certificate.subject
    assert first.certificate.not_valid_after_utc == ca.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    "declared_fleet", [replace(FLEET, count=0), replace(FLEET, host=HostSpec(ports=(8080,)))]
)
def test_a_host_that_is_leased_while_its_fleet_converges_stays(
    fleet: Yard,
    hypervisor: FaultyProvider,
    monkeypatch: pytest.MonkeyPatch,
    declared_fleet: FleetSpec,
) -> None:
    leased_records: list[HostRecord] = []
    claim = hypervisor.inner.claim

    def late(record: Any, **changes: Any) -> Any:
        if (
            changes.get("phase") in ("draining", "deleting")
            and record.name == "ci-1"
            and not leased_records
        ):
            monkeypatch.setattr(hypervisor.inner, "claim", claim)
            own_record = next(r for r in records(fleet) if r.name == "ci-1")
            leased_records.append(
                hypervisor.inner.claim(
                    own_record, lease=Lease(str(uuid.uuid4()), "job", 1.0, 9e9, "1f")
                )
            )
        return claim(record, **changes)

    monkeypatch.setattr(hypervisor.inner, "claim", late)
    fleet.fleets.apply(declared_fleet)
    assert [r.name for r in records(fleet) if r.lease] == ["ci-1"]
    current_record = host_of(fleet, "ci-1")
    # The limit of the fleet is no property of the host.
    assert current_record == replace(
        leased_records[0],
        version=current_record.version,
        fleet_max=declared_fleet.growth_limit,
        fleet_terms=declared_fleet.terms,
    )
    assert len(records(fleet)) == max(1, declared_fleet.count)
    assert not fleet.fleets.apply(declared_fleet).changed


def test_asking_takes_a_bounded_number_of_calls(fleet: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.calls.clear()
    lease = lease_lifecycle.acquire(fleet.context, ASKED, 0.0)
    assert lease.lease is not None
    assert hypervisor.calls["observe"] + hypervisor.calls["claim"] == 2
