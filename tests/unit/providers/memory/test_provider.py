# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory hypervisor: its behaviour outside the contract."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    GuestError,
    HypervisorError,
    InvalidInput,
    TemplateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.observation import VolumeObservation
from stockyard.providers.open import open_provider
from tests.helpers.clocks import FakeClock
from tests.helpers.simulated_machines import disk_of, has_link


@pytest.mark.parametrize(
    "uri",
    [
        "memory:",
        "memory://",
        "memory:///",
        "memory://host/file",
        "memory:file",
        "memory:///a?b",
        "memory:///a#b",
        "memory:///a%00b",
    ],
)
def test_a_uri_names_an_absolute_file(uri: str) -> None:
    with pytest.raises(InvalidInput, match="memory:///"):
        open_provider(uri)


@pytest.mark.parametrize(
    "uri", ["", "xen:///", "memory", "../../etc/x", "qemu+ssh://host/system", "qemu:///embed"]
)
def test_unknown_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput):
        open_provider(uri)


def test_opening_and_reading_write_nothing(tmp_path: Path) -> None:
    provider = open_provider(f"memory://{tmp_path}/with%20space/file")
    assert provider.observe("stockyard").hosts == ()
    provider.close()
    assert list(tmp_path.iterdir()) == []


def test_hosts_are_observed_after_volumes(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    provider = yard.context.provider
    record = provider.observe("stockyard").hosts[0].record
    observe = provider.volumes.observe

    def observe_and_delete_host(owner: str) -> VolumeObservation:
        volumes = observe(owner)
        provider.destroy(record)
        return volumes

    monkeypatch.setattr(provider.volumes, "observe", observe_and_delete_host)
    assert provider.observe("stockyard").hosts == ()


def test_memory_provider_declares_no_network(tmp_path: Path) -> None:
    assert not open_provider(f"memory://{tmp_path}/file").capabilities.endpoints


def test_disk_of_a_guest_is_readable(yard: Yard) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    disk = disk_of(host)
    assert (disk / "etc/hostname").read_text() == "ci-1\n"
    assert (disk / "run/stockyard/open").exists()
    assert json.loads((disk / "var/lib/stockyard/identity.json").read_text())["uuid"] == host.uuid
    yard.fleets.delete("ci")
    assert not disk.exists()


def test_nothing_of_a_host_is_in_its_template(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    assert list(disk_of(yard.templates.list()[0]).iterdir()) == []


def test_memory_of_a_guest_is_lost_after_a_stop(yard: Yard) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    provider, deadline = yard.context.provider, Deadline(5)
    record = provider.observe("stockyard").hosts[0].record
    (disk_of(host) / "run/x").write_text("")
    provider.stop(record, deadline)
    assert not has_link(provider, record)
    provider.start(record, deadline)
    assert not has_link(provider, record)
    assert not (disk_of(host) / "run/x").exists()


def test_paused_guest_continues_with_its_memory(yard: Yard, tmp_path: Path) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    (disk_of(host) / "run/x").write_text("")
    state = tmp_path / "hypervisor"
    state.write_text(state.read_text().replace('"state": "running"', '"state": "paused"'))
    assert [(h.state, h.ready) for h in yard.hosts.list()] == [("paused", False)]
    assert [a.verb for a in yard.fleets.apply(FleetSpec("ci", "base")).plan.actions] == ["start"]
    assert yard.hosts.list()[0].ready
    assert (disk_of(host) / "run/x").exists()


def test_guest_with_a_wiped_disk_has_no_identity(yard: Yard) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    record = yard.context.provider.observe("stockyard").hosts[0].record
    yard.context.provider.stop(record, Deadline(5))
    (disk_of(host) / "var/lib/stockyard/identity.json").unlink()
    with pytest.raises(GuestError, match="a different identity, or none"):
        yard.hosts.restart("ci-1")
    yard.context.provider.stop(record, Deadline(5))
    # A fleet makes another in its place.
    assert yard.fleets.apply(FleetSpec("ci", "base")).objects[0].uuid != host.uuid


def test_uncreatable_disk_raises_a_stockyard_error(yard: Yard, tmp_path: Path) -> None:
    disks = tmp_path / "hypervisor.d" / "disks"
    disks.rename(disks.with_name("away"))
    disks.write_text("")
    with pytest.raises(HypervisorError, match="disk"):
        yard.context.provider.start(
            yard.context.provider.observe("stockyard").templates[0].record, Deadline(5)
        )


def test_unreadable_state_file_stops_all_operations_and_is_kept(yard: Yard, tmp_path: Path) -> None:
    state = tmp_path / "hypervisor"
    state.write_text("garbage\n")
    for call in (
        lambda: yard.fleets.apply(FleetSpec("ci", "base")),
        lambda: yard.templates.apply(TemplateSpec("base")),
        lambda: yard.teardown(templates=True),
        yard.hosts.list,
    ):
        with pytest.raises(
            HypervisorError, match="the state file cannot be read; nothing was changed"
        ):
            call()
    assert state.read_text() == "garbage\n"


def test_hundred_hosts_are_created_in_seconds(yard: Yard) -> None:
    # A thousand take ten times as long: what one costs does not grow with how many there are.
    begin = time.process_time()
    yard.fleets.apply(FleetSpec("ci", "base", count=100))
    assert time.process_time() - begin < 10
    assert yard.fleets.list()[0].ready == 100


@pytest.mark.parametrize("content", ["", "{"])
def test_unfinished_note_of_a_killed_controller_is_deleted_by_reap(
    yard: Yard, content: str
) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    note = disk_of(host).with_name(f".{host.uuid}.json.0123abcd.new")
    note.write_text(content)
    yard.reap(dry_run=True)
    assert note.exists()
    yard.reap()
    assert not note.exists()
    assert disk_of(host).exists()


def test_state_outlives_its_process(uri: str, tmp_path: Path) -> None:
    changed = []
    for _run in range(2):
        with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=FakeClock()) as yard:
            changed += [
                yard.templates.apply(TemplateSpec("base")).changed,
                yard.fleets.apply(FleetSpec("ci", "base")).changed,
            ]
    assert changed == [True, True, False, False]
