# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The yard: what users of the SDK hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import stockyard
from stockyard import FleetSpec, InvalidInput, TemplateSpec, Yard, public
from stockyard.clock import SystemClock
from stockyard.pki.authority import Authority
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import HOSTILE


def test_each_public_name_exists() -> None:
    assert sorted(set(stockyard.__all__)) == list(stockyard.__all__)
    assert stockyard.__all__ == public.__all__
    assert all(hasattr(stockyard, name) for name in stockyard.__all__)


@pytest.mark.parametrize("owner", HOSTILE)
def test_a_hostile_owner_is_refused(uri: str, owner: str) -> None:
    with pytest.raises(InvalidInput):
        Yard(uri, owner=owner)


def test_hypervisor_is_given_by_argument_or_environment(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", uri)
    assert Yard().context.provider.uri == uri
    named = f"memory://{tmp_path}/named"
    assert Yard(named).context.provider.uri == named


def test_keys_are_under_the_users_configuration(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert Yard(uri).context.pki("t").directory == tmp_path / "home/.config/stockyard/stockyard/t"
    assert (
        Yard(uri, pki_dir="~/keys").context.pki("t").directory == tmp_path / "home/keys/stockyard/t"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert Yard(uri, owner="me").context.pki("t").directory == tmp_path / "xdg/stockyard/me/t"


def test_every_tenant_and_owner_has_an_authority_of_its_own(uri: str, tmp_path: Path) -> None:
    first, second = (Yard(uri, owner=owner, pki_dir=str(tmp_path)) for owner in ("one", "other"))
    authorities = [
        yard.context.pki(t).authority(yard.context.today()).pem()
        for yard in (first, second)
        for t in ("a", "b")
    ]
    assert len(set(authorities)) == 4


def test_a_yard_works_from_an_empty_home_with_an_authority_that_was_given(
    uri: str, tmp_path: Path, clock: FakeClock
) -> None:
    authority = Authority.create("vault", Yard(uri, clock=clock).context.today())
    options = {"ca_certificate": authority.pem(), "ca_private_key": authority.key_pem()}
    for run in range(2):
        with Yard(uri, pki_dir=str(tmp_path / f"home{run}"), clock=clock, **options) as yard:  # type: ignore[arg-type]
            yard.templates.apply(TemplateSpec("base"))
            assert yard.fleets.apply(FleetSpec("ci", "base")).changed == (run == 0)
            client = yard.context.pki("default").client_directory
        assert (client / "ca.pem").read_text() == authority.pem()
        assert not list((tmp_path / f"home{run}").rglob("ca-key.pem"))


def test_closed_yard_disconnects_from_the_hypervisor(hypervisor: FaultyProvider) -> None:
    with Yard(provider=hypervisor.as_provider()):
        pass
    assert hypervisor.calls["close"] == 1


def test_the_clock_is_the_machines_own_unless_another_is_given(uri: str, clock: FakeClock) -> None:
    assert isinstance(Yard(uri).context.clock, SystemClock)
    assert Yard(uri, clock=clock).context.deadline(5).clock is clock


def test_number_of_observations_does_not_grow_with_the_hosts(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    observations = []
    for count in (1, 10):
        yard.fleets.apply(FleetSpec("ci", "base", count=count))
        hypervisor.calls.clear()
        yard.fleets.apply(FleetSpec("ci", "base", count=count))
        observations.append(hypervisor.calls["observe"])
    assert observations[0] == observations[1] <= 4


def test_a_yard_from_its_first_template_to_its_end(uri: str, tmp_path: Path) -> None:
    with Yard(uri, pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(TemplateSpec("base"))
        endpoints = [
            h.docker.endpoint for h in yard.fleets.apply(FleetSpec("ci", "base", count=3)).objects
        ]
        assert len(set(endpoints)) == 3
        yard.hosts.delete("ci-1")
        yard.teardown(templates=True)
        assert yard.hosts.list() == ()
