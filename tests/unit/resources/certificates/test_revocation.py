# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates that are revoked, and the hosts that refuse them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Client,
    GuestError,
    InvalidInput,
    OperationRefused,
    StockyardError,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.pki.authority import Authority
from stockyard.providers.memory.guest import AgentChannel
from tests.helpers.certificates import (
    ALONE,
    DAY,
    FLEET,
    GUEST,
    Controllers,
    GuestFiles,
    assert_consistent,
    file_contents,
    lose_authority,
    plan_lines,
)
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import has_link
from tests.helpers.values import present


def test_new_host_refuses_no_client(yard: Yard) -> None:
    for host in yard.fleets.apply(FLEET).objects:
        assert list(GuestFiles(host).crl) == []
        assert present(host.identity).revoked == {}


def test_revoked_client_is_refused_by_every_running_host(
    yard: Yard, controllers: Controllers
) -> None:
    hosts = [*yard.fleets.apply(FLEET).objects, *yard.hosts.apply(ALONE).objects]
    issued = yard.certificates.issue(GUEST)
    folder = Path(issued.objects[0].directory)
    assert not yard.certificates.issue(GUEST).changed
    assert all(GuestFiles(h).admits(folder) for h in hosts)
    dry = yard.certificates.revoke(GUEST, check=True)
    result = yard.certificates.revoke(GUEST)
    assert (
        plan_lines(dry)
        == plan_lines(result)
        == ["revoke guest", "renew alone", "renew ci-1", "renew ci-2"]
    )
    assert result.objects == ()
    for host in yard.hosts.list():
        assert_consistent(host)
        assert not GuestFiles(host).admits(folder)
        assert GuestFiles(host).admits(controllers.folder("pki") / "client")
        assert list(present(host.identity).revoked) == [issued.objects[0].serial]
    assert not yard.certificates.revoke(GUEST).changed
    assert not yard.fleets.apply(FLEET).changed
    assert yard.certificates.issue(GUEST).changed
    assert all(GuestFiles(h).admits(folder) for h in yard.hosts.list())


def test_check_mode_revokes_and_issues_nothing(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    assert plan_lines(yard.certificates.issue(GUEST, check=True)) == ["issue guest"]
    assert not (controllers.folder("pki") / "clients").exists()
    yard.certificates.issue(GUEST)
    before = file_contents(controllers.root)
    assert yard.certificates.revoke(GUEST, check=True).changed
    assert file_contents(controllers.root) == before


def test_stopped_host_gets_revocations_before_its_link_is_up(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.hosts.apply(ALONE)
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    hypervisor.stop(yard.context.provider.observe("stockyard").hosts[0].record, Deadline(1))
    assert plan_lines(yard.certificates.revoke(GUEST)) == ["revoke guest"]
    (host,) = yard.hosts.list()
    assert host.drift == ("its list of revoked certificates is outdated",)
    assert GuestFiles(host).admits(folder)
    hypervisor.fail("set_link", StockyardError("cut here"))
    with pytest.raises(StockyardError, match="cut here"):
        yard.hosts.apply(ALONE)
    assert not GuestFiles(host).admits(folder)
    assert not has_link(hypervisor, hypervisor.observe("stockyard").hosts[0].record)


def test_host_without_the_latest_revocations_gets_them_in_the_next_run(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    hosts = yard.fleets.apply(FLEET).objects
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    hypervisor.fail("channel", GuestError("silent"))
    with pytest.raises(StockyardError, match="some hosts did not receive") as caught:
        yard.certificates.revoke(GUEST)
    assert "silent" in caught.value.cause
    assert sorted(GuestFiles(h).admits(folder) for h in hosts) == [False, True]
    assert len(yard.certificates.revoke(GUEST).plan.actions) == 1
    assert not any(GuestFiles(h).admits(folder) for h in hosts)


def test_revocation_is_known_to_another_controller(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    yard.fleets.apply(FLEET)
    folder = Path(yard.certificates.issue(GUEST).objects[0].directory)
    yard.certificates.revoke(GUEST)
    second = controllers("empty", authority)
    assert not second.fleets.apply(FLEET).changed
    grown = second.fleets.apply(replace(FLEET, count=3)).objects[2]
    assert_consistent(grown)
    assert not GuestFiles(grown).admits(folder)


def test_revocations_of_two_controllers_add_up(
    yard: Yard, controllers: Controllers, authority: Authority
) -> None:
    yard.hosts.apply(ALONE)
    second = controllers("empty", authority)
    folders = [Path(y.certificates.issue(GUEST).objects[0].directory) for y in (yard, second)]
    yard.certificates.revoke(GUEST)
    second.certificates.revoke(GUEST)
    (host,) = yard.hosts.list()
    assert [GuestFiles(host).admits(folder) for folder in folders] == [False, False]
    assert not yard.hosts.apply(ALONE).changed


def test_certificate_is_revoked_by_pem_or_by_serial(
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
        assert GuestFiles(yard.hosts.list()[0]).admits(tmp_path)
        assert yard.certificates.revoke(Client("elsewhere"), **named).changed
        assert not GuestFiles(yard.hosts.list()[0]).admits(tmp_path)
        assert len(present(yard.hosts.list()[0].identity).revoked) == number + 1


@pytest.mark.parametrize("way", [{"serial": "x"}, {"certificate": "nonsense"}])
def test_invalid_serial_or_certificate_is_refused(yard: Yard, way: dict[str, Any]) -> None:
    yard.hosts.apply(ALONE)
    with pytest.raises(InvalidInput):
        yard.certificates.revoke(GUEST, **way)


def test_certificate_of_another_ca_is_not_revoked(yard: Yard) -> None:
    yard.hosts.apply(ALONE)
    foreign, _key = Authority.create("other", yard.context.today()).issue_client(
        "guest", yard.context.today()
    )
    with pytest.raises(InvalidInput, match="the certificate was not signed by the tenant's CA"):
        yard.certificates.revoke(GUEST, certificate=foreign.pem)


def test_revoked_operator_gets_another_certificate(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    folder = controllers.folder("pki") / "client"
    stolen = controllers.root / "stolen"
    stolen.mkdir()
    (stolen / "cert.pem").write_bytes((folder / "cert.pem").read_bytes())
    yard.certificates.revoke(Client("operator"))
    for host in yard.hosts.list():
        assert not GuestFiles(host).admits(stolen)
        assert GuestFiles(host).admits(folder)


def test_expired_certificate_leaves_the_list_of_revocations(yard: Yard, clock: FakeClock) -> None:
    yard.hosts.apply(ALONE)
    yard.certificates.issue(GUEST)
    yard.certificates.revoke(GUEST)
    clock.time += 91 * DAY
    assert not yard.hosts.apply(ALONE).changed
    yard.certificates.issue(GUEST)
    yard.certificates.revoke(GUEST)
    assert len(list(GuestFiles(yard.hosts.list()[0]).crl)) == 1


def test_missing_ca_issues_and_revokes_nothing(yard: Yard, controllers: Controllers) -> None:
    yard.hosts.apply(ALONE)
    lost = controllers("anew")
    for call in (lost.certificates.issue, lost.certificates.revoke):
        with pytest.raises(OperationRefused, match="the tenant has no CA"):
            call(GUEST)
    assert not (controllers.folder("anew") / "ca.pem").exists()


@pytest.mark.parametrize("name", ["revoked.json", "clients.json"])
@pytest.mark.parametrize("text", ["", "x", "[]", '{"zz": "soon"}', '{"guest": 3}'])
def test_damaged_ledger_is_never_taken_for_an_empty_one(
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


def test_tenants_do_not_share_revocations(yard: Yard, controllers: Controllers) -> None:
    yard.fleets.apply(FLEET)
    yard.certificates.issue(replace(GUEST, tenant="other"))
    assert plan_lines(yard.certificates.revoke(replace(GUEST, tenant="other"))) == ["revoke guest"]
    assert yard.hosts.list()[0].drift == ()


def test_certificate_is_written_to_the_given_directory(yard: Yard, tmp_path: Path) -> None:
    client = replace(GUEST, directory=str(tmp_path / "handed-out"), days=2)
    (issued,) = yard.certificates.issue(client).objects
    assert sorted(p.name for p in (tmp_path / "handed-out").iterdir()) == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]
    assert issued.not_after == pytest.approx(
        yard.context.clock.now() + timedelta(days=2).total_seconds(), abs=1
    )


def test_only_connections_that_a_change_excludes_are_closed(
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
    lose_authority(controllers)
    yard.hosts.apply(ALONE)
    assert heard == [False, False, True, True]
