# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets with the memory hypervisor: size, repair, and convergence after each failure."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from stockyard import (
    AddressTaken,
    Busy,
    Conflict,
    FleetSpec,
    HostSpec,
    HypervisorError,
    ImageSpec,
    NotFound,
    OperationRefused,
    SingleSpec,
    StockyardError,
    TemplateSpec,
    Unsupported,
    UpdateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.host import Host
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import has_link
from tests.helpers.values import present


def fleet(count: int = 3, **options: Any) -> FleetSpec:
    return FleetSpec("ci", "base", count=count, **options)


def hosts(yard: Yard) -> dict[str, Host]:
    return {h.record.name: h for h in yard.context.provider.observe(yard.context.owner).hosts}


def verbs(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def test_fleet_is_created_and_then_unchanged(yard: Yard) -> None:
    result = yard.fleets.apply(fleet())
    assert verbs(result) == ["create ci-1", "create ci-2", "create ci-3"]
    assert [h.name for h in result.objects] == ["ci-1", "ci-2", "ci-3"]
    assert {h.ready for h in result.objects} == {True}
    second_result = yard.fleets.apply(fleet())
    assert not second_result.changed
    assert second_result.objects == result.objects


def test_every_host_is_itself(yard: Yard) -> None:
    current_hosts = yard.fleets.apply(fleet()).objects
    for fact in ("uuid", "mac", "address", "name"):
        assert len({getattr(h, fact) for h in current_hosts}) == 3
    for fact in ("machine_id", "ssh_host_key", "certificate"):
        assert len({getattr(h.identity, fact) for h in current_hosts}) == 3
    assert all(has_link(yard.context.provider, host.record) for host in hosts(yard).values())


def test_check_mode_writes_nothing_and_needs_no_template(bare: Yard, tmp_path: Path) -> None:
    result = bare.fleets.apply(fleet(), check=True)
    assert len(result.plan.actions) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_fleet_shrinks_from_the_top_and_grows_from_the_bottom(yard: Yard) -> None:
    yard.fleets.apply(fleet(3))
    assert verbs(yard.fleets.apply(fleet(1))) == ["delete ci-2", "delete ci-3"]
    assert verbs(yard.fleets.apply(fleet(2))) == ["create ci-2"]
    assert verbs(yard.fleets.apply(fleet(0))) == ["delete ci-1", "delete ci-2"]
    assert hosts(yard) == {}


def test_an_empty_fleet_needs_no_template(bare: Yard) -> None:
    assert not bare.fleets.apply(fleet(0)).changed


def test_a_fleet_without_its_template_is_an_error(yard: Yard) -> None:
    with pytest.raises(NotFound, match="create the template"):
        yard.fleets.apply(FleetSpec("ci", "not-there"))
    with pytest.raises(NotFound):
        yard.fleets.apply(FleetSpec("ci", "base", tenant="other"))
    assert hosts(yard) == {}


def test_hosts_are_replaced_when_the_declaration_changes(yard: Yard) -> None:
    before = {h.name: h.uuid for h in yard.fleets.apply(fleet(2)).objects}
    result = yard.fleets.apply(fleet(2, host=HostSpec(ports=(8080,))))
    assert verbs(result) == ["create ci-3", "delete ci-1", "create ci-1", "delete ci-2"]
    assert [h.ports for h in result.objects] == [(8080,), (8080,)]
    assert not {h.uuid for h in result.objects} & set(before.values())


def test_hosts_are_replaced_when_the_template_changes(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(fleet(2))
    clock.sleep(1)
    yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("busybox",))))
    recreate = UpdateSpec("recreate")
    assert verbs(yard.fleets.apply(fleet(2, update=recreate), check=True)) == [
        "replace ci-1",
        "replace ci-2",
    ]
    assert verbs(yard.fleets.apply(fleet(2))) == [
        "create ci-3",
        "delete ci-1",
        "create ci-1",
        "delete ci-2",
    ]
    assert not yard.fleets.apply(fleet(2)).changed


def test_labels_are_changed_in_place(yard: Yard) -> None:
    before = yard.fleets.apply(fleet(1)).objects[0]
    result = yard.fleets.apply(fleet(1, labels={"env": "test"}))
    assert verbs(result) == ["relabel ci-1"]
    assert result.objects[0].labels == {"env": "test"}
    assert result.objects[0].uuid == before.uuid


def test_a_host_that_is_off_is_started_as_itself(yard: Yard) -> None:
    before = yard.fleets.apply(fleet(2)).objects
    provider = yard.context.provider
    provider.stop(hosts(yard)["ci-2"].record, Deadline(5))
    assert [h.ready for h in yard.hosts.list()] == [True, False]
    result = yard.fleets.apply(fleet(2))
    assert verbs(result) == ["start ci-2"]
    assert result.objects == before


def test_fleet_is_deleted(yard: Yard) -> None:
    yard.fleets.apply(fleet())
    assert len(yard.fleets.delete("ci", check=True).plan.actions) == 3
    assert len(hosts(yard)) == 3
    assert len(yard.fleets.delete("ci").plan.actions) == 3
    assert hosts(yard) == {}
    assert not yard.fleets.delete("ci").changed


def test_incomplete_host_of_a_dead_controller_is_created_again(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.fail("fork", SystemExit())
    hypervisor.fail("destroy", HypervisorError("the controller is dead."))
    with pytest.raises(StockyardError, match="the controller is dead"):
        yard.fleets.apply(fleet(1))
    assert [h.record.phase for h in hosts(yard).values()] == ["creating"]
    result = yard.fleets.apply(fleet(1))
    assert verbs(result) == ["delete ci-1", "create ci-1"]
    assert result.objects[0].ready
    assert not yard.fleets.apply(fleet(1)).changed


@pytest.mark.parametrize("step", ["create_host", "fork", "channel", "set_link", "claim"])
def test_one_failure_spoils_one_host(yard: Yard, hypervisor: FaultyProvider, step: str) -> None:
    hypervisor.fail(step, HypervisorError("the disk is on fire."))
    with pytest.raises(HypervisorError, match="on fire"):
        yard.fleets.apply(fleet())
    remaining_hosts = hosts(yard)
    assert len(remaining_hosts) == 2
    assert {h.serving for h in remaining_hosts.values()} == {True}
    assert len(known_hosts(yard)) == 2
    assert len(yard.fleets.apply(fleet()).plan.actions) == 1
    assert not yard.fleets.apply(fleet()).changed


def test_all_failures_are_reported(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("fork", HypervisorError("first cause."))
    hypervisor.fail("fork", HypervisorError("second cause."), call=2)
    with pytest.raises(StockyardError, match="2 of 3 hosts failed") as caught:
        yard.fleets.apply(fleet())
    # In whichever order the hosts failed: they are made side by side.
    assert all(cause in str(caught.value) for cause in ("first cause", "second cause"))
    assert len(hosts(yard)) == 1


@pytest.mark.parametrize(
    "answer", [{"mac": "52:54:00:00:00:01"}, {"ssh_host_key": "x\ny"}, {"csr": None}]
)
def test_a_host_that_is_not_itself_never_gets_on_the_network(
    yard: Yard, hypervisor: FaultyProvider, answer: dict[str, Any]
) -> None:
    hypervisor.tamper("identify", lambda genuine: {**genuine, **answer})
    with pytest.raises(StockyardError, match="host ci-1: "):
        yard.fleets.apply(fleet(1))
    assert hypervisor.calls["set_link"] == 0
    assert hosts(yard) == {}


def test_another_address_is_tried_when_one_is_taken(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("create_host", AddressTaken("address 127.64.0.1 is in use."))
    assert yard.fleets.apply(fleet(1)).objects[0].ready
    hypervisor.fail("create_host", Conflict("a domain of this name exists."))
    with pytest.raises(Conflict, match="name"):
        yard.fleets.apply(fleet(2))


def test_next_fork_mode_is_used_with_the_reason(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("fork", Unsupported("the RAM file is on another disk."))
    (host,) = yard.fleets.apply(fleet(1)).objects
    assert host.mode == "linked"
    assert "on another disk" in host.mode_reason
    assert host.fork_mode == "instant"
    assert not yard.fleets.apply(fleet(1)).changed


def test_impossible_fork_is_refused_with_the_reason(yard: Yard, hypervisor: FaultyProvider) -> None:
    for call in (1, 2, 3):
        hypervisor.fail("fork", Unsupported(f"reason {call}."), call=call)
    with pytest.raises(Unsupported, match="reason 1"):
        yard.fleets.apply(fleet(1))
    assert hosts(yard) == {}


def test_foreign_hosts_are_unchanged(yard: Yard, uri: str, tmp_path: Path) -> None:
    with Yard(uri, owner="neighbour", pki_dir=str(tmp_path / "theirs")) as neighbour:
        neighbour.templates.apply(TemplateSpec("base"))
        neighbour.fleets.apply(fleet(2))
        yard.hosts.apply(SingleSpec("ci-2", "base"))
        yard.fleets.apply(fleet(3))
        broken = hosts(yard)["ci-4"].record
        state = tmp_path / "hypervisor"
        state.write_text(
            state.read_text() + json.dumps([broken.domain, {"record": "garbage"}]) + "\n"
        )
        before = [neighbour.hosts.list(), hosts(yard)["ci-2"]]
        assert yard.context.provider.observe("stockyard").unreadable[0].name == broken.domain
        assert verbs(yard.fleets.apply(fleet(3))) == ["create ci-5"]
        yard.fleets.delete("ci")
        assert [neighbour.hosts.list(), hosts(yard)["ci-2"]] == before
        assert yard.context.provider.observe("stockyard").unreadable[0].name == broken.domain
        with pytest.raises(OperationRefused):
            yard.templates.delete("base")


def test_locked_fleet_is_busy(yard: Yard) -> None:
    with (
        yard.context.provider.exclusive("stockyard.default.fleet.ci", Deadline(1)),
        pytest.raises(Busy, match="another controller"),
    ):
        yard.fleets.apply(fleet())
    assert yard.fleets.apply(fleet(1)).changed


def known_hosts(yard: Yard) -> list[str]:
    return yard.context.pki("default").known_hosts.read_text().splitlines()


def test_recorded_ssh_keys_are_pinned(yard: Yard) -> None:
    created_hosts = yard.fleets.apply(fleet(2)).objects
    known_hosts_lines = [
        f"[{h.address}]:2222 {present(h.identity).ssh_host_key}" for h in created_hosts
    ]
    assert known_hosts(yard) == sorted(known_hosts_lines)
    yard.fleets.apply(fleet(1))
    assert known_hosts(yard) == [known_hosts_lines[0]]
    yard.fleets.delete("ci")
    assert known_hosts(yard) == []


def test_a_client_certificate_is_renewed_though_the_fleet_is_as_declared(
    yard: Yard, clock: FakeClock
) -> None:
    yard.fleets.apply(fleet(1))
    folder = yard.context.pki("default").client_directory

    def serial() -> int:
        return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes()).serial_number

    first = serial()
    assert not yard.fleets.apply(fleet(1)).changed
    assert serial() == first
    clock.sleep(80 * 86400)
    assert not yard.fleets.apply(fleet(1)).changed
    assert serial() != first


@pytest.mark.parametrize("check", [True, False])
def test_port_of_another_owner_deletes_no_host(uri: str, tmp_path: Path, check: bool) -> None:
    """Its host is replaced in its own place: the old one would be gone before the new one is
    refused.
    """
    spec = fleet(1, host=HostSpec(bind="127.0.0.1", ports=(8080,)))
    for owner, port in (("mine", 8080), ("theirs", 9090)):
        with Yard(uri, owner=owner, pki_dir=str(tmp_path / "pki"), clock=FakeClock()) as yard:
            yard.templates.apply(TemplateSpec("base"))
            yard.fleets.apply(replace(spec, host=replace(spec.host, ports=(port,))))
    with Yard(uri, owner="mine", pki_dir=str(tmp_path / "pki"), clock=FakeClock()) as yard:
        before = yard.hosts.list()
        for ports in ((9090,), (8080, 9090)):
            with pytest.raises(
                Conflict, match=r"host ci-1: port 9090 cannot be published on 127.0.0.1"
            ):
                yard.fleets.apply(replace(spec, host=replace(spec.host, ports=ports)), check=check)
        assert yard.hosts.list() == before
        assert yard.fleets.apply(
            replace(spec, host=replace(spec.host, ports=(8080, 8081))), check=check
        ).changed


def test_check_mode_reports_a_missing_template(uri: str, tmp_path: Path) -> None:
    """Another task may make it before: it is no error in check mode, and not passed over either."""
    lines: list[str] = []
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=FakeClock(), progress=lines.append) as yard:
        assert yard.fleets.apply(FleetSpec("ci", "typo"), check=True).changed
        assert yard.hosts.apply(SingleSpec("one", "typo"), check=True).changed
        reason = "template typo must be built first"
        assert lines == [f"fleet ci: {reason}", f"host one: {reason}"]
        yard.templates.apply(TemplateSpec("base"))
        lines.clear()
        yard.fleets.apply(FleetSpec("ci", "base"), check=True)
        yard.fleets.apply(FleetSpec("ci", "typo", count=0), check=True)
    assert lines == []


def test_progress_names_each_host(uri: str, tmp_path: Path) -> None:
    lines: list[str] = []
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=FakeClock(), progress=lines.append) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(fleet(1))
    for stage in (
        "template base: frozen",
        "host ci-1: started as instant fork",
        "host ci-1: identity installed",
        "host ci-1: ready",
    ):
        assert any(line.startswith(stage) for line in lines), lines


def _converge(uri: str, pki: str, gate: Any, results: Any) -> None:
    gate.wait()
    try:
        with Yard(uri, pki_dir=pki) as yard:
            results.put(("ok", len(yard.fleets.apply(fleet(4)).plan.actions)))
    except Exception as error:  # noqa: BLE001  # shown by the assertion
        results.put((type(error).__name__, str(error)))


def test_twenty_controllers_at_once_make_one_set_of_hosts(
    yard: Yard, uri: str, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(20), context.Queue()
    workers = [
        context.Process(target=_converge, args=(uri, str(tmp_path / "pki"), gate, results))
        for _n in range(20)
    ]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=60) for _worker in workers]
    for worker in workers:
        worker.join()
    assert {kind for kind, _size in outcomes} <= {"ok", "Busy"}, outcomes
    assert [size for kind, size in outcomes if kind == "ok" and size] == [4]
    assert sorted(hosts(yard)) == ["ci-1", "ci-2", "ci-3", "ci-4"]
    assert {h.serving for h in hosts(yard).values()} == {True}
    assert not yard.fleets.apply(fleet(4)).changed


def test_fleets_converge_independently(yard: Yard) -> None:
    errors: list[Exception] = []

    def make(name: str) -> None:
        try:
            yard.fleets.apply(FleetSpec(name, "base", count=2))
        except Exception as error:  # noqa: BLE001  # shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=make, args=(f"fleet{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(hosts(yard)) == 10
    assert len(yard.fleets.list()) == 5
