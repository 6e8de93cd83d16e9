# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of branched hosts: each child has copies, or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    BranchSpec,
    Busy,
    Conflict,
    HostInfo,
    HostSpec,
    HypervisorError,
    InvalidInput,
    OperationRefused,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.guest.agent import main
from stockyard.model.volume import DOCKER_ROOT, VolumeRecord
from stockyard.providers.memory.branches import MemoryBranches
from stockyard.providers.memory.provider import MemoryProvider
from stockyard.providers.memory.volumes import FolderDisks
from stockyard.resources.hosts import trust
from tests.helpers.faulty_provider import FaultyProvider

STORE = HostSpec(volumes=(VolumeUse("{host}-data", "/data"), VolumeUse("cache", "/cache")))
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1ff"
SHOOTS = BranchSpec("trunk", ("shoot-1", "shoot-2"))
NONE = replace(SHOOTS, volumes="none")


@pytest.fixture
def trunk(yard: Yard) -> HostInfo:
    """A host with two declared volumes and another one."""
    host = yard.hosts.apply(SingleSpec("trunk", "base", host=STORE)).object
    yard.volumes.attach(VolumeSpec("more", size_gib=3), host="trunk", path="/more")
    write(yard, "trunk", "data", "before")
    return host


def memory(yard: Yard) -> MemoryProvider:
    provider: Any = yard.context.provider
    inner = getattr(provider, "inner", provider)
    assert isinstance(inner, MemoryProvider)
    return inner


def record(yard: Yard, name: str) -> VolumeRecord:
    volume = yard.context.provider.volumes.observe("stockyard").find("default", name)
    assert volume is not None
    return volume


def names(yard: Yard) -> list[str]:
    return [volume.name for volume in yard.volumes.list()]


def mounted(yard: Yard, host: str, path: str) -> Path:
    """The directory at a path of a host's guest."""
    return memory(yard).disks.folder / yard.hosts.get(host).uuid / path.lstrip("/")


def write(yard: Yard, host: str, path: str, text: str) -> None:
    (mounted(yard, host, path) / "text").write_text(text)


def read(yard: Yard, host: str, path: str) -> str:
    return (mounted(yard, host, path) / "text").read_text()


def test_each_child_has_copies_of_all_volumes(yard: Yard, trunk: HostInfo) -> None:
    assert {child.ready for child in yard.hosts.branch(SHOOTS).objects} == {True}
    write(yard, "trunk", "data", "after")
    write(yard, "shoot-1", "data", "of shoot-1")
    assert read(yard, "trunk", "data") == "after"
    assert read(yard, "shoot-1", "data") == "of shoot-1"
    assert read(yard, "shoot-2", "data") == "before"
    assert names(yard) == [
        *("cache", "more"),
        *("shoot-1-cache", "shoot-1-data", "shoot-1-more"),
        *("shoot-2-cache", "shoot-2-data", "shoot-2-more"),
        "trunk-data",
    ]
    for child in SHOOTS.children:
        for name, declared in (("data", True), ("cache", True), ("more", False)):
            volume = record(yard, f"{child}-{name}")
            assert (volume.phase, volume.filesystem) == ("ready", "ext4")
            assert volume.source == {"data": "trunk-data"}.get(name, name)
            attachment = volume.attachment
            assert attachment is not None
            assert (attachment.host, attachment.path) == (child, f"/{name}")
            assert (attachment.mounted, attachment.declared) == (True, declared)
    assert record(yard, "shoot-1-more").size_gib == 3


def test_the_volumes_of_the_parent_stay_as_they_are(yard: Yard, trunk: HostInfo) -> None:
    before = [record(yard, name) for name in ("cache", "more", "trunk-data")]
    yard.hosts.branch(SHOOTS)
    assert [record(yard, name) for name in ("cache", "more", "trunk-data")] == before


def test_a_child_mounts_its_copies_when_it_boots(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(SHOOTS)
    yard.hosts.delete("trunk")
    yard.volumes.delete("trunk-data")
    mounts = json.loads((mounted(yard, "shoot-1", "var/lib/stockyard/volumes.json")).read_text())
    assert mounts == {
        path: record(yard, f"shoot-1-{path[1:]}").serial for path in ("/data", "/cache", "/more")
    }
    yard.hosts.restart("shoot-1")
    assert read(yard, "shoot-1", "data") == "before"
    assert record(yard, "shoot-1-data").attachment is not None


def test_a_child_can_be_branched_and_its_copies_are_named_after_the_grandchild(
    yard: Yard, trunk: HostInfo
) -> None:
    yard.hosts.branch(SHOOTS)
    write(yard, "shoot-1", "data", "of shoot-1")
    yard.hosts.branch(BranchSpec("shoot-1", ("leaf",)))
    assert read(yard, "leaf", "data") == "of shoot-1"
    assert {"leaf-cache", "leaf-data", "leaf-more"} <= set(names(yard))


def test_copies_are_retained_when_a_child_is_deleted(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(SHOOTS)
    yard.hosts.delete("shoot-1")
    assert record(yard, "shoot-1-data").attachment is None
    with pytest.raises(OperationRefused, match="needs the name of another volume") as refusal:
        yard.hosts.branch(SHOOTS, check=True)
    assert "delete volume shoot-1-" in refusal.value.remedy
    for name in ("data", "cache", "more"):
        yard.volumes.delete(f"shoot-1-{name}")
    assert [action.name for action in yard.hosts.branch(SHOOTS).plan.actions] == ["shoot-1"]


def test_a_second_run_changes_nothing(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(SHOOTS)
    before = names(yard)
    assert not yard.hosts.branch(SHOOTS).changed
    assert names(yard) == before


def test_the_volume_of_a_child_can_be_detached_and_attached_elsewhere(
    yard: Yard, trunk: HostInfo
) -> None:
    yard.hosts.branch(SHOOTS)
    yard.volumes.detach("shoot-1-more")
    yard.volumes.attach("shoot-1-more", host="shoot-2", path="/other")
    assert mounted(yard, "shoot-2", "other").is_symlink()


def test_a_child_without_volumes_has_none(yard: Yard, trunk: HostInfo) -> None:
    before = names(yard)
    assert {child.ready for child in yard.hosts.branch(NONE).objects} == {True}
    assert names(yard) == before
    provider = memory(yard)
    for child in NONE.children:
        assert not mounted(yard, child, "data").is_symlink()
        assert list(mounted(yard, child, "data").iterdir()) == []
        mounts = mounted(yard, child, "var/lib/stockyard/volumes.json")
        assert json.loads(mounts.read_text()) == {}
        host = provider.observe("stockyard").host("default", child)
        assert host is not None
        assert host.record.spec.volumes == ()
        assert provider.state.read()[host.record.domain].volumes == ()
    assert read(yard, "trunk", "data") == "before"
    assert yard.hosts.restart("shoot-1").object.ready


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SHOOTS, ["discard-identity", "volume-mount", "volume-mount", "volume-mount", "identify"]),
        (NONE, ["discard-identity", "volume-drop", "volume-drop", "volume-drop", "identify"]),
    ],
    ids=["copy", "none"],
)
def test_volumes_are_settled_before_the_identity(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo, spec: BranchSpec, expected: list[str]
) -> None:
    calls: list[str] = []

    def note(operation: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def unchanged(reply: dict[str, Any]) -> dict[str, Any]:
            calls.append(operation)
            return reply

        return unchanged

    for operation in set(expected):
        hypervisor.tamper(operation, note(operation))
    yard.hosts.branch(replace(spec, names=("shoot-1",)))
    assert calls == expected


@pytest.mark.parametrize("method", ["fork", "copy_volume"])
def test_no_copy_is_left_if_a_child_fails(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    before = names(yard)
    monkeypatch.setattr(MemoryBranches, method, fail)
    with pytest.raises(HypervisorError, match="no memory"):
        yard.hosts.branch(SHOOTS)
    assert names(yard) == before
    assert [host.name for host in yard.hosts.list()] == ["trunk"]
    assert yard.context.provider.branches.all() == []


def fail(*_arguments: object) -> None:
    raise HypervisorError("no memory is free")


def test_the_copies_of_an_incomplete_child_are_created_again(
    yard: Yard, hypervisor: FaultyProvider, trunk: HostInfo
) -> None:
    """A controller died before the child was ready."""
    yard.hosts.branch(SHOOTS)
    old_copy = record(yard, "shoot-1-data")
    make_incomplete(yard, "shoot-1")
    yard.hosts.branch(SHOOTS)
    new_copy = record(yard, "shoot-1-data")
    assert new_copy.uuid != old_copy.uuid
    assert new_copy.phase == "ready"
    assert yard.hosts.get("shoot-1").ready


def test_copies_of_a_child_whose_deletion_was_interrupted_are_retained(
    yard: Yard, trunk: HostInfo
) -> None:
    """A user had the child, so its volumes can contain data."""
    yard.hosts.branch(SHOOTS)
    provider = memory(yard)
    host = provider.observe("stockyard").host("default", "shoot-1")
    assert host is not None
    provider.claim(host.record, phase="deleting")
    with pytest.raises(OperationRefused, match="needs the name of another volume"):
        yard.hosts.branch(SHOOTS)
    assert yard.context.provider.branches.all()[0].phase == "released"
    assert record(yard, "shoot-1-data").phase == "ready"


def test_an_incomplete_copy_without_a_host_is_created_again(yard: Yard, trunk: HostInfo) -> None:
    """A controller died between the deletion of the child and that of its copies."""
    yard.hosts.branch(SHOOTS)
    yard.hosts.delete("shoot-1")
    provider = yard.context.provider
    for name in ("data", "cache", "more"):
        provider.volumes.claim(record(yard, f"shoot-1-{name}"), phase="deleting")
    yard.hosts.branch(SHOOTS)
    assert record(yard, "shoot-1-data").phase == "ready"


def test_reap_deletes_an_incomplete_child_with_its_copies(yard: Yard, trunk: HostInfo) -> None:
    yard.hosts.branch(SHOOTS)
    make_incomplete(yard, "shoot-1")
    yard.reap(grace=0)
    assert [name for name in names(yard) if name.startswith("shoot-1")] == []
    assert len([name for name in names(yard) if name.startswith("shoot-2")]) == 3


def make_incomplete(yard: Yard, name: str) -> None:
    provider = memory(yard)
    host = provider.observe("stockyard").host("default", name)
    assert host is not None
    provider.claim(host.record, phase="creating")


def test_encrypted_volumes_are_refused(yard: Yard, trunk: HostInfo) -> None:
    yard.context.provider.volumes.claim(record(yard, "cache"), encryption_id=trunk.uuid)
    with pytest.raises(Unsupported, match="encrypted volume cannot be branched") as refusal:
        yard.hosts.branch(SHOOTS, check=True)
    assert refusal.value.remedy
    assert yard.context.provider.branches.all() == []


@pytest.mark.parametrize("spec", [SHOOTS, NONE], ids=["copy", "none"])
def test_a_host_that_opened_an_encrypted_volume_is_refused(
    hypervisor: FaultyProvider, tmp_path: Path, spec: BranchSpec
) -> None:
    security = SecuritySpec(encrypted_data=True)
    with Yard(
        provider=hypervisor.as_provider(), pki_dir=str(tmp_path / "pki"), volume_key=SECRET
    ) as yard:
        yard.templates.apply(TemplateSpec("secret", docker="stopped", security=security))
        yard.hosts.apply(SingleSpec("trunk", "secret", host=STORE))
        with pytest.raises(Unsupported, match="encrypted volume cannot be branched"):
            yard.hosts.branch(spec)
        assert names(yard) == ["cache", "trunk-data"]


@pytest.fixture
def secret_trunk(hypervisor: FaultyProvider, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a host that an encrypted volume was attached to for a while."""
    security = SecuritySpec(encrypted_data=True)
    with Yard(
        provider=hypervisor.as_provider(), pki_dir=str(tmp_path / "pki"), volume_key=SECRET
    ) as yard:
        yard.templates.apply(TemplateSpec("secret", docker="stopped", security=security))
        yard.hosts.apply(SingleSpec("trunk", "secret"))
        yard.volumes.attach(VolumeSpec("more", size_gib=3), host="trunk", path="/more")
        yard.volumes.detach("more")
        yield yard


def test_a_host_is_branched_after_the_detachment_of_an_encrypted_volume(
    secret_trunk: Yard,
) -> None:
    assert {child.ready for child in secret_trunk.hosts.branch(SHOOTS).objects} == {True}


def test_a_host_whose_memory_can_contain_a_key_is_refused_until_it_boots(
    secret_trunk: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderDisks, "zeroes_freed_memory", lambda _disks: False)
    for check in (True, False):
        with pytest.raises(OperationRefused, match="can contain the key") as refusal:
            secret_trunk.hosts.branch(SHOOTS, check=check)
        assert "restart the host" in refusal.value.remedy
    assert secret_trunk.context.provider.branches.all() == []
    secret_trunk.hosts.restart("trunk")
    assert secret_trunk.hosts.branch(SHOOTS).changed


def test_a_host_with_encrypted_data_and_an_earlier_agent_is_refused(
    secret_trunk: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "AGENT", 9)
    with pytest.raises(Unsupported, match="too old for branches of hosts with encrypted data"):
        secret_trunk.hosts.branch(SHOOTS)


def test_a_volume_that_is_being_attached_is_refused(yard: Yard, trunk: HostInfo) -> None:
    volume = record(yard, "more")
    assert volume.attachment is not None
    yard.context.provider.volumes.claim(
        volume, attachment=replace(volume.attachment, mounted=False)
    )
    with pytest.raises(OperationRefused, match="is being attached"):
        yard.hosts.branch(SHOOTS)


def test_a_child_without_the_volume_of_docker_is_refused(yard: Yard) -> None:
    yard.templates.apply(TemplateSpec("stateful", docker="stopped"))
    spec = HostSpec(volumes=(VolumeUse("{host}-docker", DOCKER_ROOT),))
    yard.hosts.apply(SingleSpec("trunk", "stateful", host=spec))
    with pytest.raises(Unsupported, match="would have no Docker"):
        yard.hosts.branch(NONE, check=True)
    assert {child.ready for child in yard.hosts.branch(SHOOTS).objects} == {True}
    assert "shoot-1-docker" in names(yard)


def test_a_hypervisor_without_this_capability_refuses(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = yard.context.provider
    capabilities = replace(provider.capabilities, branches_volumes=False)
    monkeypatch.setattr(memory(yard), "capabilities", capabilities)
    with pytest.raises(Unsupported, match="cannot branch a host with volumes"):
        yard.hosts.branch(SHOOTS)


def test_an_agent_that_cannot_drop_volumes_is_refused_before_anything_changes(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "AGENT", 7)
    with pytest.raises(Unsupported, match="too old for branches without volumes"):
        yard.hosts.branch(NONE)
    assert yard.context.provider.branches.all() == []
    assert yard.hosts.branch(SHOOTS).changed


def test_two_copies_of_one_name_are_refused(yard: Yard) -> None:
    yard.hosts.apply(SingleSpec("trunk", "base"))
    yard.volumes.attach("data", host="trunk", path="/a")
    yard.volumes.attach("trunk-data", host="trunk", path="/b")
    with pytest.raises(OperationRefused, match="would have the same name"):
        yard.hosts.branch(SHOOTS)


def test_a_name_that_is_too_long_is_refused(yard: Yard, trunk: HostInfo) -> None:
    with pytest.raises(InvalidInput, match="volume name"):
        yard.hosts.branch(BranchSpec("trunk", ("s" * 60,)), check=True)


def test_a_volume_of_another_host_is_never_taken(yard: Yard, trunk: HostInfo) -> None:
    yard.volumes.apply(VolumeSpec("shoot-2-data", size_gib=1))
    with pytest.raises(OperationRefused, match="needs the name of another volume"):
        yard.hosts.branch(SHOOTS)
    assert yard.context.provider.branches.all() == []


def test_volumes_cannot_change_while_they_are_branched(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = MemoryBranches.create

    def busy(*arguments: Any) -> Any:
        with (
            pytest.raises(Busy),
            yard.context.provider.exclusive(
                yard.context.lock_name("volume", "default", "more"), Deadline(0.1)
            ),
        ):
            pass
        return create(*arguments)

    monkeypatch.setattr(MemoryBranches, "create", busy)
    assert yard.hosts.branch(SHOOTS).changed


def test_a_volume_that_was_detached_meanwhile_is_a_conflict(
    yard: Yard, trunk: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = trust.prepare

    def detach(*arguments: Any) -> None:
        prepare(*arguments)
        yard.volumes.detach("more")

    monkeypatch.setattr(trust, "prepare", detach)
    with pytest.raises(Conflict, match="volumes of the host were changed"):
        yard.hosts.branch(SHOOTS)
    assert yard.context.provider.branches.all() == []


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidInput):
        replace(SHOOTS, volumes="share")
