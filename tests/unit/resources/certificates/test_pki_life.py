# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys handed over, lost, rotated, renewed and revoked, over the memory hypervisor: its guests run
the real agent.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stockyard import (
    Client,
    FleetSpec,
    GuestError,
    HostInfo,
    HostSpec,
    InvalidInput,
    OperationRefused,
    SingleSpec,
    StockyardError,
    Unsupported,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.pki.authority import SERVER_DAYS, Authority
from stockyard.providers.memory.guest import AgentChannel
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of, has_link
from tests.helpers.values import present

FLEET = FleetSpec("ci", "base", count=2)
ALONE = SingleSpec("alone", "base")
GUEST = Client("guest")
DAY = 86400.0
KEPT = ("uuid", "address", "mac", "created", "generation", "state", "mode")


class Controllers:
    """Controllers of one yard, each with a home of its own."""

    def __init__(self, hypervisor: FaultyProvider, clock: FakeClock, root: Path) -> None:
        self.hypervisor, self.clock, self.root = hypervisor, clock, root
        self.lines: list[str] = []

    def __call__(self, home: str, authority: Authority | None = None) -> Yard:
        given: dict[str, Any] = {}
        if authority:
            given = {"ca_certificate": authority.pem(), "ca_private_key": authority.key_pem()}
        return Yard(
            provider=self.hypervisor.as_provider(),
            clock=self.clock,
            pki_dir=str(self.root / home),
            progress=self.lines.append,
            **given,
        )

    def folder(self, home: str) -> Path:
        return self.root / home / "stockyard" / "default"


@pytest.fixture
def controllers(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path
) -> Controllers:
    """Others than the one of ``yard``, whose home is ``pki``."""
    return Controllers(hypervisor, clock, tmp_path)


@pytest.fixture
def authority(yard: Yard) -> Authority:
    """The first controller's CA."""
    return yard.context.pki("default").authority(yard.context.today())


class Guest:
    """What lies on a host's disk, as its TLS front reads it."""

    def __init__(self, host: HostInfo) -> None:
        self.disk = disk_of(host)
        tls = self.disk / "var/lib/stockyard/tls"
        self.ca = x509.load_pem_x509_certificate((tls / "ca.pem").read_bytes())
        self.certificate = x509.load_pem_x509_certificate((tls / "cert.pem").read_bytes())
        self.crl = x509.load_pem_x509_crl((tls / "crl.pem").read_bytes())
        self.key = serialization.load_pem_private_key((tls / "key.pem").read_bytes(), None)

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:x}"

    @property
    def keys(self) -> str:
        return (self.disk / "etc/ssh/stockyard_authorized_keys").read_text()

    def admits(self, folder: Path) -> bool:
        """Whether the front lets a client in, by the rules of `verifyChain` and `CRLfile`."""
        client = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        if client.issuer != self.ca.subject or not self.crl.is_signature_valid(
            self.ca.public_key()  # type: ignore[arg-type]
        ):
            return False
        try:
            client.verify_directly_issued_by(self.ca)
        except Exception:  # noqa: BLE001  # whatever says no
            return False
        return self.crl.get_revoked_certificate_by_serial_number(client.serial_number) is None


def whole(host: HostInfo) -> None:
    """Certificate, key, CA, list and record of a host belong together."""
    guest = Guest(host)
    guest.certificate.verify_directly_issued_by(guest.ca)
    assert guest.key.public_key() == guest.certificate.public_key()
    assert guest.crl.is_signature_valid(guest.ca.public_key())  # type: ignore[arg-type]
    assert guest.crl.next_update_utc == guest.ca.not_valid_after_utc
    assert guest.serial == present(host.identity).certificate
    assert guest.certificate.not_valid_after_utc.timestamp() == present(host.identity).not_after
    assert host.drift == ()


def same(before: HostInfo, after: HostInfo) -> None:
    assert [getattr(after, k) for k in KEPT] == [getattr(before, k) for k in KEPT]
    assert Guest(after).key.public_key() == Guest(before).key.public_key()
    for fact in ("machine_id", "ssh_host_key"):
        assert getattr(after.identity, fact) == getattr(before.identity, fact)


def plan(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Handed over


def test_another_home_with_the_same_ca_changes_nothing(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    made = yard.fleets.apply(FLEET).objects
    second = controllers("empty", authority)
    assert not second.fleets.apply(FLEET, check=True).changed
    assert not (controllers.root / "empty").exists()
    result = second.fleets.apply(FLEET)
    assert not result.changed
    assert [h.identity for h in result.objects] == [h.identity for h in made]
    folder = controllers.folder("empty")
    assert (folder / "known_hosts").read_text().count("\n") == 2
    assert all(Guest(h).admits(folder / "client") for h in made)
    assert not list(folder.rglob("ca-key*"))
    assert not any(authority.key_pem().encode() in content for content in files(folder).values())
    assert not yard.fleets.apply(FLEET).changed


def test_from_an_empty_home_a_whole_yard_is_made(
    controllers: Controllers, clock: FakeClock
) -> None:
    given = Authority.create("given", datetime.fromtimestamp(clock.now(), UTC))
    for host in controllers("empty", given).fleets.apply(FLEET).objects:
        whole(host)
        assert Guest(host).ca == given.certificate


def test_templates_hold_no_keys(yard: Yard, tmp_path: Path) -> None:
    yard.fleets.apply(FLEET)
    (template,) = yard.templates.list()
    assert not [
        p for p in disk_of(template).rglob("*") if p.suffix == ".pem" or "ssh_host" in p.name
    ]


# Lost, and rotated


def lose(controllers: Controllers) -> None:
    for part in ("ca.pem", "ca-key.pem"):
        (controllers.folder("pki") / part).rename(controllers.root / part)


def test_a_lost_ca_is_noticed_and_nothing_is_written(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    lose(controllers)
    before = files(controllers.root)
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
    assert files(controllers.root) == before


@pytest.mark.parametrize("how", ["rotated", "lost", "another"])
def test_hosts_are_admitted_to_a_new_ca_where_they_are(
    yard: Yard, controllers: Controllers, how: str
) -> None:
    made = yard.fleets.apply(FLEET).objects
    old = controllers.folder("pki") / "client"
    heir, home = yard, "pki"
    if how == "rotated":
        lose(controllers)
        old = old.rename(controllers.root / "old")
    elif how == "lost":
        heir, home = controllers("anew"), "anew"
    else:
        another = Authority.create("another", yard.context.today())
        heir, home = controllers("anew", another), "anew"
    result = heir.fleets.apply(FLEET)
    assert plan(result) == ["renew ci-1", "renew ci-2"]
    for before, after in zip(made, result.objects, strict=True):
        same(before, after)
        whole(after)
        assert present(after.identity).certificate != present(before.identity).certificate
        assert Guest(after).admits(controllers.folder(home) / "client")
        assert not Guest(after).admits(old)
        assert Guest(after).keys.strip() == heir.context.pki("default").operator_key()
    assert not heir.fleets.apply(FLEET).changed
    said = any("creating a new CA" in line for line in controllers.lines)
    assert said == (how == "lost")


def test_a_new_ca_does_not_touch_keys_that_were_declared(
    yard: Yard, controllers: Controllers
) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"
    spec = replace(FLEET, host=HostSpec(authorized_keys=(key,)))
    yard.fleets.apply(spec)
    for host in controllers("anew").fleets.apply(spec).objects:
        assert Guest(host).keys == key + "\n"


def test_a_host_of_its_own_is_admitted_too(yard: Yard, controllers: Controllers) -> None:
    made = yard.hosts.apply(ALONE).objects[0]
    result = controllers("anew").hosts.apply(ALONE)
    assert plan(result) == ["renew alone"]
    same(made, result.objects[0])
    whole(result.objects[0])


def test_half_a_ca_stops_everything_and_is_shown(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    (controllers.folder("pki") / "ca-key.pem").unlink()
    before = files(controllers.root)
    assert ["the CA is incomplete:" in h.drift[0] for h in yard.hosts.list()] == [True, True]
    for check in (True, False):
        with pytest.raises(InvalidInput, match="the CA is incomplete:"):
            yard.fleets.apply(FLEET, check=check)
    assert files(controllers.root).items() >= before.items()
    yard.fleets.delete("ci")


def test_taking_hosts_away_makes_no_ca(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    yard.hosts.apply(ALONE)
    heir = controllers("anew")
    heir.fleets.delete("ci")
    heir.teardown()
    assert not (controllers.folder("anew") / "ca.pem").exists()


def test_one_host_that_fails_leaves_the_others_admitted_and_is_mended_later(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    lose(controllers)
    # After both were asked for their clocks.
    hypervisor.fail("channel", GuestError("silent"), call=3)
    with pytest.raises(GuestError, match="silent"):
        yard.fleets.apply(FLEET)
    assert sorted(len(h.drift) for h in yard.hosts.list()) == [0, 1]
    assert len(yard.fleets.apply(FLEET).plan.actions) == 1
    for host in yard.hosts.list():
        whole(host)


def test_a_controller_that_dies_before_the_record_is_written_is_made_good(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    lose(controllers)
    hypervisor.fail("claim", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        yard.hosts.apply(ALONE)
    assert plan(yard.hosts.apply(ALONE)) == ["renew alone"]
    whole(yard.hosts.list()[0])


def test_hosts_of_before_the_ca_was_recorded_are_left_alone(yard: Yard) -> None:
    yard.hosts.apply(ALONE)
    record = yard.context.provider.observe("stockyard").hosts[0].record
    assert record.identity
    yard.context.provider.claim(record, identity=replace(record.identity, authority=""))
    assert not yard.hosts.apply(ALONE).changed


def test_a_guest_that_cannot_be_admitted_anew_says_what_to_do(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    lose(controllers)
    hypervisor.tamper("hello", lambda answer: {**answer, "agent": 1})
    with pytest.raises(Unsupported, match="too old") as caught:
        yard.hosts.apply(ALONE)
    assert "replace the host" in caught.value.remedy


@pytest.mark.parametrize("answer", [{}, {"csr": None}, {"csr": "nonsense"}, {"uuid": "another"}])
def test_a_guest_that_talks_nonsense_keeps_what_it_has(
    yard: Yard, controllers: Controllers, hypervisor: FaultyProvider, answer: dict[str, Any]
) -> None:
    made = yard.hosts.apply(ALONE).objects[0]
    serial = Guest(made).serial
    lose(controllers)
    hypervisor.tamper(
        "hello" if "uuid" in answer else "csr", lambda found: {**found, "csr": 1, **answer}
    )
    with pytest.raises(GuestError):
        yard.hosts.apply(ALONE)
    assert Guest(made).serial == serial
    assert yard.hosts.list()[0].identity == made.identity


# Renewed


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(
    yard: Yard, clock: FakeClock
) -> None:
    made = yard.fleets.apply(FLEET).objects
    clock.time += (SERVER_DAYS * 2 / 3 - 1) * DAY
    assert not yard.fleets.apply(FLEET).changed
    clock.time += 2 * DAY
    end = datetime.fromtimestamp(present(made[0].identity).not_after, UTC)
    reason = f"its certificate ends on {end:%Y-%m-%d}"
    assert yard.hosts.list()[0].drift == (reason,)
    dry = yard.fleets.apply(FLEET, check=True)
    assert [a.reason for a in dry.plan.actions] == [reason] * 2
    result = yard.fleets.apply(FLEET)
    assert plan(result) == ["renew ci-1", "renew ci-2"]
    for before, after in zip(made, result.objects, strict=True):
        same(before, after)
        whole(after)
        assert present(after.identity).not_after == pytest.approx(
            clock.time + SERVER_DAYS * DAY, abs=1
        )
    assert not yard.fleets.apply(FLEET).changed


def test_a_certificate_that_cannot_last_longer_is_not_renewed_for_ever(
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
    lose(controllers)
    assert plan(yard.fleets.apply(FLEET)) == ["renew ci-1", "renew ci-2"]


def test_a_host_that_is_off_is_renewed_before_its_link_comes_up(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    made = yard.hosts.apply(ALONE).objects[0]
    record = yard.context.provider.observe("stockyard").hosts[0].record
    hypervisor.stop(record, Deadline(1))
    clock.time += 300 * DAY
    assert plan(yard.hosts.apply(ALONE, check=True)) == ["start alone", "renew alone"]
    hypervisor.fail("set_link", StockyardError("cut here"))
    with pytest.raises(StockyardError, match="cut here"):
        yard.hosts.apply(ALONE)
    whole(yard.hosts.list()[0])
    assert not has_link(hypervisor, hypervisor.observe("stockyard").hosts[0].record)
    assert present(yard.hosts.list()[0].identity).certificate != present(made.identity).certificate


def test_start_renew_and_relabel_of_one_host_do_not_run_into_each_other(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    for seen in yard.context.provider.observe("stockyard").hosts:
        hypervisor.stop(seen.record, Deadline(1))
    clock.time += 300 * DAY
    result = yard.fleets.apply(replace(FLEET, labels={"a": "1"}))
    assert plan(result) == [
        f"{verb} ci-{n}" for n in (1, 2) for verb in ("start", "renew", "relabel")
    ]
    for host in result.objects:
        whole(host)
        assert host.labels == {"a": "1"}
        assert host.state == "running"


def test_a_restart_renews_too(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(ALONE)
    clock.time += 300 * DAY
    result = yard.hosts.restart("alone")
    assert plan(result) == ["restart alone", "renew alone"]
    whole(result.objects[0])


def test_the_operators_certificate_is_renewed_by_a_run_that_changes_nothing(
    yard: Yard, controllers: Controllers, clock: FakeClock
) -> None:
    yard.fleets.apply(FLEET)
    before = (controllers.folder("pki") / "client/cert.pem").read_bytes()
    clock.time += 80 * DAY
    assert not yard.fleets.apply(FLEET).changed
    assert (controllers.folder("pki") / "client/cert.pem").read_bytes() != before


# Revoked


def test_a_new_host_revokes_nobody(yard: Yard) -> None:
    for host in yard.fleets.apply(FLEET).objects:
        assert list(Guest(host).crl) == []
        assert present(host.identity).revoked == {}


def test_a_revoked_client_is_refused_by_every_running_host(
    yard: Yard, controllers: Controllers
) -> None:
    hosts = [*yard.fleets.apply(FLEET).objects, *yard.hosts.apply(ALONE).objects]
    issued = yard.certificates.issue(GUEST)
    folder = Path(issued.objects[0].directory)
    assert not yard.certificates.issue(GUEST).changed
    assert all(Guest(h).admits(folder) for h in hosts)
    dry = yard.certificates.revoke(GUEST, check=True)
    result = yard.certificates.revoke(GUEST)
    assert plan(dry) == plan(result) == ["revoke guest", "renew alone", "renew ci-1", "renew ci-2"]
    assert result.objects == ()
    for host in yard.hosts.list():
        whole(host)
        assert not Guest(host).admits(folder)
        assert Guest(host).admits(controllers.folder("pki") / "client")
        assert list(present(host.identity).revoked) == [issued.objects[0].serial]
    assert not yard.certificates.revoke(GUEST).changed
    assert not yard.fleets.apply(FLEET).changed
    assert yard.certificates.issue(GUEST).changed
    assert all(Guest(h).admits(folder) for h in yard.hosts.list())


def test_check_mode_revokes_and_issues_nothing(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    assert plan(yard.certificates.issue(GUEST, check=True)) == ["issue guest"]
    assert not (controllers.folder("pki") / "clients").exists()
    yard.certificates.issue(GUEST)
    before = files(controllers.root)
    assert yard.certificates.revoke(GUEST, check=True).changed
    assert files(controllers.root) == before


def test_a_host_that_is_off_learns_what_is_revoked_before_its_link_comes_up(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    hypervisor.stop(yard.context.provider.observe("stockyard").hosts[0].record, Deadline(1))
    assert plan(yard.certificates.revoke(GUEST)) == ["revoke guest"]
    (host,) = yard.hosts.list()
    assert host.drift == ("its list of revoked certificates is outdated",)
    assert Guest(host).admits(folder)
    hypervisor.fail("set_link", StockyardError("cut here"))
    with pytest.raises(StockyardError, match="cut here"):
        yard.hosts.apply(ALONE)
    assert not Guest(host).admits(folder)
    assert not has_link(hypervisor, hypervisor.observe("stockyard").hosts[0].record)


def test_a_host_that_cannot_be_told_stays_due_and_is_told_by_the_next_run(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    hosts = yard.fleets.apply(FLEET).objects
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    hypervisor.fail("channel", GuestError("silent"))
    with pytest.raises(StockyardError, match="some hosts did not receive") as caught:
        yard.certificates.revoke(GUEST)
    assert "silent" in caught.value.cause
    assert sorted(Guest(h).admits(folder) for h in hosts) == [False, True]
    assert len(yard.certificates.revoke(GUEST).plan.actions) == 1
    assert not any(Guest(h).admits(folder) for h in hosts)


def test_what_was_revoked_is_not_forgotten_by_another_home(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    yard.fleets.apply(FLEET)
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    yard.certificates.revoke(GUEST)
    second = controllers("empty", authority)
    assert not second.fleets.apply(FLEET).changed
    grown = second.fleets.apply(replace(FLEET, count=3)).objects[2]
    whole(grown)
    assert not Guest(grown).admits(folder)


def test_revocations_of_two_homes_add_up(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    yard.hosts.apply(ALONE)
    second = controllers("empty", authority)
    folders = [Path(y.certificates.issue(GUEST).objects[0].directory) for y in (yard, second)]
    yard.certificates.revoke(GUEST)
    second.certificates.revoke(GUEST)
    (host,) = yard.hosts.list()
    assert [Guest(host).admits(folder) for folder in folders] == [False, False]
    assert not yard.hosts.apply(ALONE).changed


def test_a_certificate_is_revoked_by_its_text_or_by_its_number(
    yard: Yard, authority: Authority, tmp_path: Path
) -> None:
    yard.hosts.apply(ALONE)
    for number, way in enumerate(("certificate", "serial")):
        signed, _key = authority.issue_client("elsewhere", yard.context.today())
        (tmp_path / "cert.pem").write_text(signed.pem)
        text = (
            signed.pem
            if way == "certificate"
            else f"0{signed.serial[:3]}:{signed.serial[3:]}".upper()
        )
        named: dict[str, Any] = {way: text}
        assert Guest(yard.hosts.list()[0]).admits(tmp_path)
        assert yard.certificates.revoke(Client("elsewhere"), **named).changed
        assert not Guest(yard.hosts.list()[0]).admits(tmp_path)
        assert len(present(yard.hosts.list()[0].identity).revoked) == number + 1


@pytest.mark.parametrize("way", [{"serial": "x"}, {"certificate": "nonsense"}])
def test_what_names_no_certificate_is_refused(yard: Yard, way: dict[str, Any]) -> None:
    yard.hosts.apply(ALONE)
    with pytest.raises(InvalidInput):
        yard.certificates.revoke(GUEST, **way)


def test_another_cas_certificate_is_not_revoked(yard: Yard) -> None:
    yard.hosts.apply(ALONE)
    foreign, _key = Authority.create("other", yard.context.today()).issue_client(
        "guest", yard.context.today()
    )
    with pytest.raises(InvalidInput, match="the certificate was not signed by the tenant's CA"):
        yard.certificates.revoke(GUEST, certificate=foreign.pem)


def test_an_operator_that_is_revoked_gets_another_certificate(
    yard: Yard, controllers: Controllers
) -> None:
    yard.fleets.apply(FLEET)
    folder = controllers.folder("pki") / "client"
    stolen = controllers.root / "stolen"
    stolen.mkdir()
    (stolen / "cert.pem").write_bytes((folder / "cert.pem").read_bytes())
    yard.certificates.revoke(Client("operator"))
    for host in yard.hosts.list():
        assert not Guest(host).admits(stolen)
        assert Guest(host).admits(folder)


def test_what_ran_out_is_struck_off_the_list(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(ALONE)
    yard.certificates.issue(GUEST)
    yard.certificates.revoke(GUEST)
    clock.time += 91 * DAY
    assert not yard.hosts.apply(ALONE).changed
    yard.certificates.issue(GUEST)
    yard.certificates.revoke(GUEST)
    assert len(list(Guest(yard.hosts.list()[0]).crl)) == 1


def test_without_its_ca_nothing_is_issued_or_revoked(yard: Yard, controllers: Controllers) -> None:
    yard.hosts.apply(ALONE)
    lost = controllers("anew")
    for call in (lost.certificates.issue, lost.certificates.revoke):
        with pytest.raises(OperationRefused, match="the tenant has no CA"):
            call(GUEST)
    assert not (controllers.folder("anew") / "ca.pem").exists()


@pytest.mark.parametrize("name", ["revoked.json", "clients.json"])
@pytest.mark.parametrize("text", ["", "x", "[]", '{"zz": "soon"}', '{"guest": 3}'])
def test_a_damaged_list_is_never_taken_for_an_empty_one(
    yard: Yard, controllers: Controllers, name: str, text: str
) -> None:
    yard.hosts.apply(ALONE)
    yard.certificates.issue(GUEST)
    (controllers.folder("pki") / name).write_text(text)
    if (name, text) == ("clients.json", '{"zz": "soon"}'):
        return  # nothing of this client is in it
    with pytest.raises(InvalidInput) as caught:
        yard.certificates.revoke(GUEST)
    assert name in caught.value.name


def test_tenants_do_not_share_what_is_revoked(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    yard.certificates.issue(replace(GUEST, tenant="other"))
    assert plan(yard.certificates.revoke(replace(GUEST, tenant="other"))) == ["revoke guest"]
    assert yard.hosts.list()[0].drift == ()


def test_the_directory_is_the_users_choice(yard: Yard, tmp_path: Path) -> None:
    client = replace(GUEST, directory=str(tmp_path / "handed-out"), days=2)
    (made,) = yard.certificates.issue(client).objects
    assert sorted(p.name for p in (tmp_path / "handed-out").iterdir()) == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]
    assert made.not_after == pytest.approx(
        yard.context.clock.now() + timedelta(days=2).total_seconds(), abs=1
    )


def test_only_those_are_cut_off_whom_something_new_may_shut_out(
    yard: Yard, controllers: Controllers, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    request = AgentChannel.request

    def listening(
        self: AgentChannel, message: dict[str, Any], deadline: Deadline
    ) -> dict[str, Any]:
        if message["op"] == "renew-certificate":
            heard.append(bool(message.get("cut")))
        return request(self, message, deadline)

    monkeypatch.setattr(AgentChannel, "request", listening)
    yard.hosts.apply(ALONE)
    clock.time += 300 * DAY
    yard.hosts.apply(ALONE)
    yard.certificates.issue(GUEST)
    yard.certificates.revoke(GUEST)
    lose(controllers)
    yard.hosts.apply(ALONE)
    assert heard == [False, False, True, True]
