# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that are created from running hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    FleetSpec,
    Hardware,
    HostInfo,
    HostSpec,
    HypervisorError,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    OutOfSpace,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.guest.agent import main
from stockyard.model.branch import BranchRecord
from stockyard.model.host import HostRecord
from stockyard.model.template import TemplateRecord
from stockyard.planning.declaration import Declaration, TemplateTerm
from stockyard.providers.memory.branches import MemoryBranches
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

WARM = TemplateSpec("warm", from_host="web-1")


@pytest.fixture
def web(yard: Yard) -> HostInfo:
    """A host with a file of its user."""
    host = yard.hosts.apply(SingleSpec("web-1", "base")).object
    (disk_of(host) / "srv").mkdir()
    (disk_of(host) / "srv/data").write_text("of the user")
    return host


def branches(yard: Yard) -> list[BranchRecord]:
    return yard.context.provider.branches.all()


def record(yard: Yard, name: str = "warm") -> TemplateRecord:
    template = yard.context.provider.observe("stockyard").template("default", name)
    assert template is not None
    return template.record


def actions(result: Any) -> list[str]:
    return [str(action) for action in result.plan.actions]


def test_hosts_of_the_template_have_the_files_of_the_host_and_not_its_identity(
    yard: Yard, web: HostInfo
) -> None:
    result = yard.templates.apply(WARM)
    assert actions(result) == [
        "build template warm: it does not exist; it will be created from host web-1"
    ]
    assert record(yard).from_host == "web-1"
    assert record(yard).phase == "frozen"
    assert record(yard).hardware == record(yard, "base").hardware
    root = disk_of(result.object)
    assert (root / "srv/data").read_text() == "of the user"
    assert not (root / "var/lib/stockyard/identity.json").exists()
    assert not (root / "etc/ssh/ssh_host_ed25519_key").exists()
    assert (root / "etc/hostname").read_text() == "localhost\n"
    child = yard.hosts.apply(SingleSpec("new-1", "warm")).object
    assert child.ready
    assert (disk_of(child) / "srv/data").read_text() == "of the user"
    for key in ("machine_id", "ssh_host_key", "certificate"):
        assert getattr(child.identity, key) != getattr(web.identity, key)
    assert yard.hosts.get("web-1").identity == web.identity
    assert branches(yard) == []


def test_a_template_that_exists_does_not_follow_its_host(yard: Yard, web: HostInfo) -> None:
    yard.templates.apply(WARM)
    (disk_of(web) / "srv/data").write_text("later")
    assert not yard.templates.apply(WARM).changed
    yard.hosts.delete("web-1")
    assert not yard.templates.apply(WARM).changed
    assert yard.hosts.apply(SingleSpec("new-1", "warm")).object.ready


def test_another_revision_requests_another_generation(yard: Yard, web: HostInfo) -> None:
    first = yard.templates.apply(WARM).object.generation
    (disk_of(web) / "srv/data").write_text("later")
    result = yard.templates.apply(replace(WARM, revision="2"))
    assert actions(result)[0].startswith("build template warm: its declaration changed")
    assert result.object.generation != first
    assert (disk_of(result.object) / "srv/data").read_text() == "later"
    yard.hosts.delete("web-1")
    result = yard.templates.apply(WARM)
    assert actions(result) == ["promote template warm: its earlier declaration is declared again"]
    assert result.object.generation == first


def test_check_mode_changes_nothing(yard: Yard, web: HostInfo) -> None:
    assert yard.templates.apply(WARM, check=True).changed
    assert [info.name for info in yard.templates.list()] == ["base"]
    assert branches(yard) == []


def test_a_template_can_be_derived_from_it(yard: Yard, web: HostInfo) -> None:
    yard.templates.apply(WARM)
    child = TemplateSpec("jdk", parent="warm", image=ImageSpec(packages=("git",)))
    assert yard.templates.apply(child).changed
    assert not yard.templates.apply(child).changed


def test_a_template_that_was_built_is_replaced_by_one_from_a_host(
    yard: Yard, web: HostInfo
) -> None:
    yard.templates.apply(TemplateSpec("warm"))
    assert actions(yard.templates.apply(WARM))[0].startswith(
        "build template warm: its declaration changed"
    )
    assert record(yard).from_host == "web-1"


def test_the_volumes_of_the_host_are_no_part_of_the_template(yard: Yard, web: HostInfo) -> None:
    yard.volumes.attach(VolumeSpec("data", size_gib=1), host="web-1", path="/data")
    template = yard.templates.apply(WARM).object
    assert not (disk_of(template) / "data").is_symlink()
    assert not (disk_of(template) / "var/lib/stockyard/volumes.json").exists()
    assert [volume.name for volume in yard.volumes.list()] == ["data"]
    assert yard.volumes.get("data").host == "web-1"
    assert yard.hosts.apply(SingleSpec("new-1", "warm")).object.ready


def test_nothing_is_left_if_the_template_fails(
    yard: Yard, web: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise HypervisorError("no memory is free")

    monkeypatch.setattr(MemoryBranches, "fork_template", fail)
    with pytest.raises(HypervisorError, match="no memory"):
        yard.templates.apply(WARM)
    assert [info.name for info in yard.templates.list()] == ["base"]
    assert branches(yard) == []
    assert yard.hosts.get("web-1").ready


def test_the_identity_is_deleted_before_the_freeze(
    yard: Yard, hypervisor: FaultyProvider, web: HostInfo
) -> None:
    calls: list[str] = []

    def note(operation: str) -> Any:
        def unchanged(reply: dict[str, Any]) -> dict[str, Any]:
            calls.append(operation)
            return reply

        return unchanged

    for operation in ("scrub", "hello", "settle", "warm-up", "identify"):
        hypervisor.tamper(operation, note(operation))
    yard.templates.apply(WARM)
    # Messages fill the buffers of the port before the agent is replaced.
    scrub, settle = calls.index("scrub"), calls.index("settle")
    assert set(calls[scrub + 1 : settle]) == {"hello"}
    assert [call for call in calls if call != "hello"] == ["scrub", "settle", "warm-up"]


def test_a_host_that_does_not_exist_is_refused(yard: Yard) -> None:
    for check in (True, False):
        with pytest.raises(NotFound, match="host web-1, which it is created from"):
            yard.templates.apply(WARM, check=check)


def test_a_leased_host_is_refused(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    yard.leases.acquire("web", holder="job", duration="20m")
    with pytest.raises(OperationRefused, match="leased by job"):
        yard.templates.apply(WARM)


def test_a_member_of_a_fleet_becomes_a_template(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    assert yard.templates.apply(WARM).changed
    assert not yard.fleets.apply(FleetSpec("web", "base", count=1)).changed


def test_a_resized_host_is_refused(yard: Yard) -> None:
    yard.hosts.apply(SingleSpec("web-1", "base", host=HostSpec(vcpus=2)))
    with pytest.raises(Unsupported, match="was resized"):
        yard.templates.apply(WARM)


def test_a_hostile_host_is_refused(yard: Yard) -> None:
    yard.templates.apply(TemplateSpec("closed", security=SecuritySpec("hostile")))
    yard.hosts.apply(SingleSpec("web-1", "closed"))
    with pytest.raises(OperationRefused, match="profile hostile"):
        yard.templates.apply(WARM)


def test_a_host_that_is_off_is_refused(yard: Yard, web: HostInfo) -> None:
    host = yard.context.provider.observe("stockyard").hosts[0].record
    yard.context.provider.stop(host, yard.context.deadline(60))
    with pytest.raises(OperationRefused, match="its machine is off"):
        yard.templates.apply(WARM)


@pytest.mark.parametrize("check", [True, False])
def test_a_template_without_space_is_refused_before_the_branch(
    yard: Yard, web: HostInfo, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    def refuse(_branches: MemoryBranches, host: HostRecord) -> None:
        raise OutOfSpace("the storage has no space for a template.", name=host.title)

    def branch(*_arguments: object) -> None:
        raise AssertionError("the host was branched")

    monkeypatch.setattr(MemoryBranches, "check_template", refuse)
    monkeypatch.setattr(MemoryBranches, "create", branch)
    with pytest.raises(OutOfSpace, match="no space for a template"):
        yard.templates.apply(WARM, check=check)
    assert [info.name for info in yard.templates.list()] == ["base"]


def test_an_agent_that_is_too_old_is_refused(
    yard: Yard, web: HostInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "AGENT", 8)
    with pytest.raises(Unsupported, match="too old for templates from hosts"):
        yard.templates.apply(WARM)
    assert branches(yard) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": "base"},
        {"image": ImageSpec(packages=("git",))},
        {"hardware": Hardware(vcpus=2)},
        {"docker": "stopped"},
        {"upgrade": True},
        {"max_age": 86400.0},
        {"max_memory_mib": 2048},
        {"security": SecuritySpec("hostile")},
        {"from_host": "No"},
        {"revision": "two\nlines"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_options_that_describe_a_template_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replace(WARM, **changes)


def test_a_yard_without_the_host_reports_that_after_its_other_parts(yard: Yard) -> None:
    declaration = Declaration(templates=(TemplateTerm(WARM), TemplateTerm(TemplateSpec("other"))))
    with pytest.raises(NotFound, match="web-1"):
        yard.apply(declaration, check=True)
    with pytest.raises(NotFound, match="web-1"):
        yard.apply(declaration)
    assert [info.name for info in yard.templates.list()] == ["base", "other"]


def test_a_declared_template_stays_without_its_host(yard: Yard, web: HostInfo) -> None:
    yard.templates.apply(WARM)
    yard.hosts.delete("web-1")
    declaration = Declaration(templates=(TemplateTerm(WARM), TemplateTerm(TemplateSpec("base"))))
    assert not yard.apply(declaration).changed


def test_a_host_with_docker_on_a_volume_is_refused(yard: Yard) -> None:
    yard.templates.apply(TemplateSpec("stopped", docker="stopped"))
    volume = VolumeUse("data", "/var/lib/docker")
    yard.volumes.apply(VolumeSpec("data", size_gib=1))
    yard.hosts.apply(SingleSpec("web-1", "stopped", host=HostSpec(volumes=(volume,))))
    with pytest.raises(Unsupported, match="Docker's data on a volume"):
        yard.templates.apply(WARM)


def test_a_revision_requires_a_host() -> None:
    with pytest.raises(InvalidInput, match="revision requires from_host"):
        TemplateSpec("warm", revision="2")


def test_a_rebuild_of_the_yard_skips_the_template() -> None:
    terms = (TemplateTerm(WARM), TemplateTerm(TemplateSpec("base")))
    rebuilt = Declaration(templates=terms).rebuilt()
    assert [term.spec.upgrade for term in rebuilt.templates] == [False, True]
