# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a vCenter: one clear error each, no change, no password in it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, ImageSpec, SingleSpec, TemplateSpec, Yard
from stockyard.errors import StockyardError
from stockyard.model.host import HostSpec
from tests.integration.conftest import Controller, task
from tests.vcsim.conftest import Start
from tests.vcsim.simulator import SOURCE, Simulator

BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))


@dataclass(frozen=True)
class Case:
    """A way to fail.

    :param harm: done to the vCenter, or to what the user says of it; returns the URI.
    :param words: what the error has to say.
    """

    options: dict[str, object]
    harm: Callable[[Simulator, pytest.MonkeyPatch], str]
    words: tuple[str, ...]


def wrong_password(vcenter: Simulator, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("VMWARE_PASSWORD", "Wr0ng!")
    return vcenter.uri


def only(vcenter: Simulator, _patch: pytest.MonkeyPatch) -> str:
    return vcenter.uri


def elsewhere(part: str, replacement: str) -> Callable[[Simulator, pytest.MonkeyPatch], str]:
    return lambda vcenter, _patch: vcenter.uri.replace(part, replacement)


def nobody(vcenter: Simulator, _patch: pytest.MonkeyPatch) -> str:
    return vcenter.uri_at(1)


CASES = {
    "wrong password": Case({}, wrong_password, ("password",)),
    "expired certificate": Case({"certificate": "expired"}, only, ("certificate", "expired")),
    "unknown authority": Case({"certificate": "unknown"}, only, ("certificate", "ca_path")),
    "no such cluster": Case({}, elsewhere("DC0_C0", "DC0_C9"), ("DC0_C9",)),
    "no such datacenter": Case({}, elsewhere("/DC0/", "/DC9/"), ("DC9",)),
    "no such pool": Case({}, elsewhere("DC0_C0", "DC0_C0/none"), ("none",)),
    "an ESXi host": Case({"product": "esx"}, only, ("ESXi", "vCenter")),
    "no server": Case({}, nobody, ("127.0.0.1",)),
}


@pytest.mark.parametrize("name", CASES)
def test_failed_connection_is_reported(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    vcenter = start(**case.options)
    uri = case.harm(vcenter, monkeypatch)
    with pytest.raises(StockyardError) as caught, Yard(uri, pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
    said(vcenter, caught.value, *case.words)
    assert vcenter.changes() == {}


def said(vcenter: Simulator, error: StockyardError, *words: str) -> None:
    """An error names object, cause and remedy, and no password; not even in what a debugger would
    print.
    """
    assert all(word.lower() in str(error).lower() for word in words), str(error)
    assert "Remedy: " in str(error), str(error)
    whole = "".join(traceback.format_exception(error))
    assert vcenter.password.partition("'")[0] not in whole
    assert "Wr0ng" not in whole


def test_a_user_reads_one_line(start: Start, tmp_path: Path) -> None:
    vcenter = start()
    controller = Controller(tmp_path / "user")
    uris = {
        name: vcenter.uri.replace(*swap)
        for name, swap in {"place": ("C0", "C9"), "door": ("vsphere://", "vsphere://x.")}.items()
    }
    tasks = [
        task(name, "fleet", name="web", template="base", hypervisor=uri)
        for name, uri in uris.items()
    ]
    wrong = task(
        "password", "fleet", name="web", template="base", hypervisor=vcenter.uri, password="Wr0ng!"
    )
    played = controller.play([*tasks, wrong])
    for name in (*uris, "password"):
        assert played[name]["error"]["remedy"], played[name]
        assert "Traceback" not in str(played[name])
        assert "\n" not in played[name]["msg"]
    assert "Traceback" not in played.output
    assert "Wr0ng" not in played.output
    assert vcenter.changes() == {}


@pytest.fixture
def yard(own_vcenter: Simulator, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a frozen template."""
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as opened:
        opened.templates.apply(BASE)
        own_vcenter.reset()
        yield opened


@pytest.fixture(scope="module")
def templated(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Another, which all share who leave it as it was."""
    keys = tmp_path_factory.mktemp("keys")
    with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(keys)) as opened:
        opened.templates.apply(BASE)
        yield opened


@pytest.fixture
def shared(vcenter: Simulator, templated: Yard) -> Iterator[Yard]:
    """That, without hosts and without harm before and after."""
    vcenter.reset()
    before = machines(vcenter)
    yield templated
    vcenter.reset()
    templated.teardown()
    assert machines(vcenter) == before


def machines(vcenter: Simulator) -> set[str]:
    return set(vcenter.machines())


def test_missing_privilege_is_named_before_any_change(
    own_vcenter: Simulator, tmp_path: Path
) -> None:
    before = machines(own_vcenter)
    own_vcenter.reset()
    own_vcenter.deny("VirtualMachine.Provisioning.Clone")
    with (
        Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard,
        pytest.raises(StockyardError) as caught,
    ):
        yard.templates.apply(BASE)
    said(own_vcenter, caught.value, "VirtualMachine.Provisioning.Clone")
    assert own_vcenter.changes() == {}
    assert machines(own_vcenter) == before


@pytest.mark.parametrize(
    ("fault", "details", "word"),
    [
        (
            "NoPermission",
            {"at": "call", "privilege": "VirtualMachine.Provisioning.Clone"},
            "Provisioning.Clone",
        ),
        ("NoDiskSpace", {"datastore": "LocalDS_0"}, "LocalDS_0"),
        ("InsufficientResourcesFault", {}, "resources"),
        ("SystemError", {}, "host one"),
        ("SystemError", {"at": "after"}, "host one"),
        ("HostNotConnected", {}, "host one"),
    ],
)
def test_a_fork_that_fails_leaves_nothing(
    vcenter: Simulator, shared: Yard, fault: str, details: dict[str, Any], word: str
) -> None:
    before = machines(vcenter)
    for method in ("InstantClone_Task", "CloneVM_Task"):
        vcenter.fail(method, fault, times=0, **details)
    with pytest.raises(StockyardError) as caught:
        shared.hosts.apply(SingleSpec("one", template="base"))
    said(vcenter, caught.value, word)
    assert machines(vcenter) == before
    assert shared.hosts.list() == ()
    vcenter.reset()
    assert shared.hosts.apply(SingleSpec("one", template="base")).objects[0].mode == "instant"


def test_a_full_datastore_is_named(own_vcenter: Simulator, yard: Yard) -> None:
    before = machines(own_vcenter)
    own_vcenter.fill("LocalDS_0")
    with pytest.raises(StockyardError) as caught:
        yard.fleets.apply(FleetSpec("web", template="base", count=3))
    said(own_vcenter, caught.value, "LocalDS_0")
    assert machines(own_vcenter) == before
    assert yard.hosts.list() == ()


def test_a_dropped_session_is_opened_again(own_vcenter: Simulator, yard: Yard) -> None:
    own_vcenter.drop_sessions()
    assert len(yard.fleets.apply(FleetSpec("web", template="base", count=4)).objects) == 4
    for method in (
        "InstantClone_Task",
        "ReconfigVM_Task",
        "WaitForUpdatesEx",
        "ModifyListView",
        "RetrievePropertiesEx",
    ):
        own_vcenter.fail(method, "NotAuthenticated", at="call", skip=2)
    # News are asked for of tasks that take long.
    own_vcenter.delay("InstantClone_Task", 0.6, times=0, at="task")
    assert len(yard.fleets.apply(FleetSpec("web", template="base", count=12)).objects) == 12
    assert own_vcenter.calls()["WaitForUpdatesEx"] > 3
    names = [name for name in machines(own_vcenter) if ".web-" in name]
    assert len(names) == len(set(names)) == 12


def test_failed_session_renewal_is_reported(own_vcenter: Simulator, yard: Yard) -> None:
    own_vcenter.fail("Login", "InvalidLogin", at="call", times=0)
    own_vcenter.drop_sessions()
    with pytest.raises(StockyardError) as caught:
        yard.fleets.apply(FleetSpec("web", template="base", count=2))
    said(own_vcenter, caught.value)
    own_vcenter.reset()
    assert yard.hosts.list() == ()


def test_a_name_that_is_another_machines_is_refused(own_vcenter: Simulator, yard: Yard) -> None:
    """The folder belongs to the yard, but a foreign machine in it is kept."""
    folder = own_vcenter.find("stockyard")
    own_vcenter.clone(own_vcenter.find(SOURCE), "stockyard.default.one", folder)
    with pytest.raises(StockyardError) as caught:
        yard.hosts.apply(SingleSpec("one", template="base"))
    said(own_vcenter, caught.value, "one")
    assert "stockyard.default.one" in machines(own_vcenter)


def test_without_instant_clones_the_fallback_is_named(start: Start, tmp_path: Path) -> None:
    vcenter = start(instant_clone=False)
    vcenter.prepare(SOURCE)
    with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        hosts = yard.fleets.apply(FleetSpec("web", template="base", count=3)).objects
        assert {h.mode for h in hosts} == {"linked"}
        assert all("instant" in h.mode_reason.lower() for h in hosts), hosts[0].mode_reason
        assert not yard.fleets.apply(FleetSpec("web", template="base", count=3)).changed
        (full,) = yard.hosts.apply(
            SingleSpec("slow", template="base", host=HostSpec(fork_mode="full"))
        ).objects
        assert full.mode == "full"
        yard.teardown(templates=True)
    assert machines(vcenter) == {SOURCE}


def test_a_clone_that_lands_elsewhere_is_noticed(start: Start, tmp_path: Path) -> None:
    vcenter = start(ignore_location=True)
    before = machines(vcenter)
    with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        hosts = yard.fleets.apply(FleetSpec("web", template="base", count=2)).objects
        assert len(hosts) == 2
        yard.teardown(templates=True)
    assert machines(vcenter) == before


def test_silent_guest_is_deleted(own_vcenter: Simulator, yard: Yard) -> None:
    before = machines(own_vcenter)
    own_vcenter.stop_guests()
    with pytest.raises(StockyardError) as caught:
        yard.hosts.apply(SingleSpec("one", template="base"), timeout=3)
    said(own_vcenter, caught.value, "one")
    assert machines(own_vcenter) == before
