# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted volumes over the memory hypervisor: none in clear, no key anywhere, and a host that
waits for its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HostSpec,
    InvalidInput,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.providers.memory.guest import boot
from stockyard.resources.volumes import encryption
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1ff"
SEALED = TemplateSpec("sealed", docker="stopped", security=SecuritySpec(encrypted_data=True))
FLEET = FleetSpec("web", "sealed", host=HostSpec(volumes=(VolumeUse("{host}-docker"),)))


def opened(hypervisor: FaultyProvider, root: Path, secret: str) -> Yard:
    return Yard(provider=hypervisor.as_provider(), pki_dir=str(root / "pki"), volume_key=secret)


@pytest.fixture
def sealed(hypervisor: FaultyProvider, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a fleet of one, whose volume is encrypted."""
    with opened(hypervisor, tmp_path, SECRET) as yard:
        yard.templates.apply(SEALED)
        yard.fleets.apply(FLEET)
        yield yard


def root_of(yard: Yard) -> Path:
    return disk_of(yard.hosts.get("web-1"))


def reboot(yard: Yard) -> None:
    """As the guest does it by itself: the hypervisor sees a machine that runs."""
    serial = next(iter(yard.context.provider.volumes.observe("stockyard").volumes)).serial
    boot(root_of(yard), lambda: {serial: Path(yard.volumes.list(name="web-1-docker")[0].disk)})


def is_open(yard: Yard) -> bool:
    return (root_of(yard) / "run/stockyard/open").exists()


def test_a_volume_of_such_a_host_is_encrypted(sealed: Yard) -> None:
    (volume,) = sealed.volumes.list()
    assert (volume.encrypted, volume.filesystem, volume.mounted) == (True, "ext4", True)
    assert not sealed.fleets.apply(FLEET).changed


def test_its_key_is_in_no_file(sealed: Yard, tmp_path: Path) -> None:
    (record,) = sealed.context.provider.volumes.observe("stockyard").volumes
    keys = [SECRET.encode(), encryption.key_of(sealed.context, record).encode()]
    files = [Path(folder, name) for folder, _folders, names in os.walk(tmp_path) for name in names]
    assert len(files) > 20
    assert [p for p in files if any(key in p.read_bytes() for key in keys)] == []
    assert SECRET not in repr(sealed.context)


def test_a_host_that_booted_by_itself_waits_until_the_next_run(sealed: Yard) -> None:
    assert is_open(sealed)
    reboot(sealed)
    assert not is_open(sealed)
    (host,) = sealed.hosts.list()
    assert (host.state, host.ready) == ("running", False)
    assert host.waits == "it waits for the key of its volume at /var/lib/docker"
    assert [str(a) for a in sealed.fleets.apply(FLEET, check=True).plan.actions] == [
        f"unlock host web-1: {host.waits}"
    ]
    assert not is_open(sealed)
    assert [a.verb for a in sealed.fleets.apply(FLEET).plan.actions] == ["unlock"]
    assert is_open(sealed)
    assert sealed.hosts.list()[0].ready
    assert not sealed.fleets.apply(FLEET).changed


def test_started_host_gets_the_key_of_its_volume(sealed: Yard) -> None:
    provider, before = sealed.context.provider, sealed.hosts.list()[0].uuid
    provider.stop(provider.observe("stockyard").hosts[0].record, Deadline(10))
    assert not sealed.hosts.list()[0].ready
    assert [a.verb for a in sealed.fleets.apply(FLEET).plan.actions] == ["start"]
    assert is_open(sealed)
    assert sealed.hosts.list()[0].uuid == before
    sealed.hosts.restart("web-1")
    assert is_open(sealed)


@pytest.mark.parametrize(
    ("secret", "reason"), [("", "volume_key is not set"), (SECRET[::-1], "volume_key differs")]
)
@pytest.mark.parametrize("how", ["reboot", "stop"])
def test_without_the_right_key_nothing_is_opened_and_nothing_destroyed(
    sealed: Yard, hypervisor: FaultyProvider, tmp_path: Path, secret: str, reason: str, how: str
) -> None:
    before = sealed.hosts.list()[0].uuid
    if how == "reboot":
        reboot(sealed)
    else:
        sealed.context.provider.stop(
            sealed.context.provider.observe("stockyard").hosts[0].record, Deadline(10)
        )
    with (
        opened(hypervisor, tmp_path, secret) as other_yard,
        pytest.raises(InvalidInput, match=reason),
    ):
        other_yard.fleets.apply(FLEET)
    assert not sealed.hosts.list()[0].ready
    assert sealed.fleets.apply(FLEET).changed
    assert is_open(sealed)
    assert sealed.hosts.list()[0].uuid == before


def test_a_new_host_is_refused_before_anything_changes(
    sealed: Yard, hypervisor: FaultyProvider, tmp_path: Path
) -> None:
    before = [h.uuid for h in sealed.hosts.list()]
    with opened(hypervisor, tmp_path, "") as other_yard:
        for spec in (
            replace(FLEET, count=2),
            replace(FLEET, host=replace(FLEET.host, ports=(8080,))),
        ):
            with pytest.raises(InvalidInput, match="volume_key"):
                other_yard.fleets.apply(spec, check=True)
            with pytest.raises(InvalidInput, match="volume_key"):
                other_yard.fleets.apply(spec)
    assert [h.uuid for h in sealed.hosts.list()] == before
    assert len(sealed.volumes.list()) == 1


def test_nothing_is_ever_used_in_clear(sealed: Yard) -> None:
    sealed.templates.apply(TemplateSpec("plain", docker="stopped"))
    sealed.hosts.apply(SingleSpec("plain", "plain", host=HostSpec(volumes=(VolumeUse("clear"),))))
    sealed.hosts.delete("plain")
    for template, name, reason in (
        ("sealed", "clear", "the volume is not encrypted, and hosts of"),
        ("plain", "web-1-docker", "the volume is encrypted, and hosts of"),
    ):
        sealed.fleets.delete("web")
        spec = SingleSpec("other", template, host=HostSpec(volumes=(VolumeUse(name),)))
        with pytest.raises(Unsupported, match=reason):
            sealed.hosts.apply(spec)
        copied = replace(spec, host=HostSpec(volumes=(VolumeUse("copy", source=name),)))
        with pytest.raises(Unsupported, match=reason):
            sealed.hosts.apply(copied)
    assert [h.name for h in sealed.hosts.list()] == []


def test_volumes_are_attached_and_detached_by_hand(sealed: Yard) -> None:
    spec = VolumeSpec("more", size_gib=1)
    sealed.volumes.attach(spec, host="web-1", path="/data")
    assert sealed.volumes.list(name="more")[0].encrypted
    assert sealed.volumes.apply(replace(spec, size_gib=2)).changed
    sealed.volumes.detach(spec.name)
    sealed.volumes.apply(VolumeSpec("copy", source="more"))
    sealed.volumes.attach("copy", host="web-1", path="/data")
    assert sealed.volumes.list(name="copy")[0].mounted


def test_each_volume_has_its_own_key_which_its_copies_share(sealed: Yard) -> None:
    sealed.fleets.apply(replace(FLEET, count=2))
    sealed.fleets.delete("web")
    sealed.volumes.apply(VolumeSpec("copy", source="web-1-docker"))
    records = {v.name: v for v in sealed.context.provider.volumes.observe("stockyard").volumes}
    keys = {name: encryption.key_of(sealed.context, record) for name, record in records.items()}
    assert keys["copy"] == keys["web-1-docker"] != keys["web-2-docker"]
    assert all(len(key) == 64 for key in keys.values())


@pytest.mark.parametrize("secret", ["s3cr3t", "a" * 64])
def test_a_key_that_could_be_guessed_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(InvalidInput, match="openssl rand") as caught:
        Yard("memory:///" + str(tmp_path / "x"), volume_key=secret)
    assert secret not in str(caught.value)


def test_docker_that_runs_in_the_template_has_its_data_in_clear() -> None:
    with pytest.raises(InvalidInput, match="docker: stopped"):
        TemplateSpec("a", security=SecuritySpec(encrypted_data=True))
