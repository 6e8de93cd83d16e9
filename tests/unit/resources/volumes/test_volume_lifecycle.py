# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes over the memory hypervisor: they outlive hosts, one host at a time has one, and no death
leaves a mess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    GuestError,
    HostSpec,
    HypervisorError,
    InvalidInput,
    NotFound,
    OperationRefused,
    SingleSpec,
    TemplateSpec,
    TemplateTerm,
    Unsupported,
    UpdateSpec,
    VolumeInfo,
    VolumeSpec,
    VolumeTerm,
    VolumeUse,
    Yard,
)
from stockyard.hypervisor.capabilities import Capabilities
from stockyard.model.volume import DOCKER_ROOT
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

OWN = VolumeUse("{host}-docker")
DATA = VolumeSpec("data", size_gib=2)


def fleet(count: int = 2, **host: Any) -> FleetSpec:
    return FleetSpec("web", "stopped", count=count, host=HostSpec(volumes=(OWN,), **host))


@pytest.fixture
def stopped(yard: Yard) -> Yard:
    """The yard, with a template whose Docker waits."""
    yard.templates.apply(TemplateSpec("stopped", docker="stopped"))
    return yard


@pytest.fixture
def two(yard: Yard) -> Yard:
    """The yard with two hosts, and a detached volume."""
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    yard.volumes.apply(DATA)
    return yard


def the(yard: Yard, name: str) -> VolumeInfo:
    (volume,) = yard.volumes.list(name=name)
    return volume


def disk(yard: Yard, name: str) -> Path:
    return Path(the(yard, name).disk)


def attach(yard: Yard, host: str, name: str = "data", **how: Any) -> Any:
    return yard.volumes.attach(replace(DATA, name=name), host=host, path="/data", **how)


def test_volume_stays_with_the_name_of_its_host(stopped: Yard) -> None:
    stopped.fleets.apply(fleet())
    assert [(v.name, v.host, v.mounted) for v in stopped.volumes.list()] == [
        ("web-1-docker", "web-1", True),
        ("web-2-docker", "web-2", True),
    ]
    (disk(stopped, "web-2-docker") / "kept").write_text("")
    before = {h.uuid for h in stopped.hosts.list()}
    stopped.fleets.apply(fleet(ports=(8080,)))
    assert not before & {h.uuid for h in stopped.hosts.list()}
    assert the(stopped, "web-2-docker").host == "web-2"
    assert (disk(stopped, "web-2-docker") / "kept").exists()
    stopped.fleets.apply(fleet(1, ports=(8080,)))
    assert the(stopped, "web-2-docker").host == ""
    stopped.fleets.apply(fleet(2, ports=(8080,)))
    assert the(stopped, "web-2-docker").host == "web-2"
    assert (disk(stopped, "web-2-docker") / "kept").exists()
    assert not stopped.fleets.apply(fleet(2, ports=(8080,))).changed


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
def test_never_are_two_hosts_at_one_volume(
    stopped: Yard, hypervisor: FaultyProvider, strategy: str
) -> None:
    spec = replace(fleet(3), update=UpdateSpec(strategy))
    stopped.fleets.apply(spec)
    stopped.templates.apply(
        TemplateSpec(
            "stopped", docker="stopped", image=replace(TemplateSpec("x").image, packages=("vim",))
        )
    )
    stopped.fleets.apply(spec)
    assert {v.name: v.host for v in stopped.volumes.list()} == {
        f"web-{n}-docker": f"web-{n}" for n in (1, 2, 3)
    }
    assert len({h.generation for h in stopped.hosts.list()}) == 1


def test_booting_host_has_its_volumes_before_docker_starts(stopped: Yard) -> None:
    stopped.hosts.apply(SingleSpec("one", "stopped", host=HostSpec(volumes=(VolumeUse("mine"),))))
    stopped.hosts.restart("one")
    assert the(stopped, "mine").mounted
    root = disk_of(stopped.hosts.get("one"))
    assert (root / "run/stockyard/open").exists()
    assert (root / DOCKER_ROOT.lstrip("/")).resolve() == disk(stopped, "mine").resolve()


def test_one_host_at_a_time(two: Yard) -> None:
    assert [a.verb for a in attach(two, "ci-1").plan.actions] == ["attach"]
    assert not attach(two, "ci-1").changed
    for check in (True, False):
        with pytest.raises(OperationRefused, match="attached to host ci-1"):
            attach(two, "ci-2", check=check)
    with pytest.raises(OperationRefused, match="ci-1"):
        two.volumes.delete(DATA.name)
    with pytest.raises(OperationRefused, match="ci-1"):
        two.volumes.apply(VolumeSpec("copy", source="data"))
    assert two.volumes.detach(DATA.name).changed
    assert not two.volumes.detach(DATA.name).changed
    assert attach(two, "ci-2").changed


def test_volume_of_another_host_is_refused_before_any_change(
    stopped: Yard,
) -> None:
    use = HostSpec(volumes=(VolumeUse("mine"),))
    stopped.hosts.apply(SingleSpec("one", "stopped", host=use))
    stopped.hosts.apply(SingleSpec("two", "stopped"))
    for spec in (SingleSpec("three", "stopped", host=use), SingleSpec("two", "stopped", host=use)):
        for check in (True, False):
            with pytest.raises(OperationRefused, match="attached to host one"):
                stopped.hosts.apply(spec, check=check)
    assert [h.name for h in stopped.hosts.list()] == ["one", "two"]
    assert the(stopped, "mine").host == "one"


def test_deleted_host_releases_its_volumes(two: Yard) -> None:
    attach(two, "ci-1")
    two.hosts.replace("ci-1")
    assert (the(two, "data").host, the(two, "data").mounted) == ("", False)


def test_nothing_that_happens_to_hosts_deletes_one(stopped: Yard) -> None:
    stopped.fleets.apply(fleet())
    disks = [disk(stopped, f"web-{n}-docker") for n in (1, 2)]
    (disks[0] / "kept").write_text("")
    stopped.fleets.delete("web")
    stopped.reap(grace=0)
    result = stopped.teardown(templates=True)
    assert result.retained == ("volume web-1-docker", "volume web-2-docker")
    stopped.apply(Declaration(prune="force"))
    stopped.reap(grace=0)
    assert all(d.exists() for d in disks)
    assert (disks[0] / "kept").exists()
    planned = stopped.teardown(volumes=True, check=True)
    assert [(a.verb, a.kind) for a in planned.plan.actions] == [("delete", "volume")] * 2
    assert stopped.teardown(volumes=True).retained == ()
    assert not any(d.exists() for d in disks)


def test_check_mode_writes_nothing(two: Yard) -> None:
    def everything() -> dict[str, str]:
        folder = disk(two, "data").parent.parent
        return {str(p): p.read_text() for p in folder.rglob("*") if p.is_file()}

    before = everything()
    assert two.volumes.apply(VolumeSpec("new"), check=True).changed
    assert two.volumes.apply(replace(DATA, size_gib=3), check=True).changed
    assert two.volumes.delete("data", check=True).changed
    assert two.volumes.attach("data", host="ci-1", path="/data", check=True).changed
    assert everything() == before


def test_invalid_volume_requests_are_refused(two: Yard) -> None:
    with pytest.raises(NotFound):
        attach(two, "nobody")
    with pytest.raises(NotFound):
        two.volumes.detach("nothing")
    with pytest.raises(NotFound):
        two.volumes.apply(VolumeSpec("copy", source="nothing"))
    with pytest.raises(InvalidInput):
        two.volumes.attach(DATA, host="ci-1", path="/etc")
    with pytest.raises(OperationRefused, match="Docker runs"):
        two.volumes.attach(DATA, host="ci-1", path=DOCKER_ROOT)
    two.volumes.apply(VolumeSpec("snap", source="data", snapshot=True))
    with pytest.raises(Unsupported, match="snapshot"):
        two.volumes.attach(
            VolumeSpec("snap", source="data", snapshot=True), host="ci-1", path="/data"
        )
    attach(two, "ci-1")
    with pytest.raises(OperationRefused, match="mounted at /data"):
        two.volumes.attach(DATA, host="ci-1", path="/other")
    assert not two.volumes.delete("nothing").changed


def test_a_declared_volume_is_not_detached_by_hand(stopped: Yard) -> None:
    stopped.hosts.apply(SingleSpec("one", "stopped", host=HostSpec(volumes=(VolumeUse("mine"),))))
    with pytest.raises(OperationRefused, match="declared"):
        stopped.volumes.detach("mine")


def test_docker_root_needs_a_template_whose_docker_waits(yard: Yard) -> None:
    with pytest.raises(Unsupported, match="docker: stopped"):
        yard.hosts.apply(SingleSpec("one", "base", host=HostSpec(volumes=(VolumeUse("mine"),))))
    assert yard.volumes.list() == ()
    assert yard.hosts.list() == ()
    yard.hosts.apply(
        SingleSpec("one", "base", host=HostSpec(volumes=(VolumeUse("mine", "/data"),)))
    )


def test_number_of_volumes_is_limited_by_the_ports(stopped: Yard) -> None:
    uses = tuple(VolumeUse(f"v-{n}", f"/data-{n}") for n in range(5))
    with pytest.raises(Unsupported, match="spare_ports"):
        stopped.hosts.apply(SingleSpec("one", "stopped", host=HostSpec(volumes=uses)))
    assert stopped.hosts.list() == ()


def test_volumes_without_ports_are_refused(yard: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.inner.capabilities = Capabilities(modes=("instant",), parallel=1)
    with pytest.raises(Unsupported):
        yard.volumes.apply(DATA)
    with pytest.raises(Unsupported):
        yard.hosts.apply(
            SingleSpec("one", "base", host=HostSpec(volumes=(VolumeUse("mine", "/data"),)))
        )


def test_a_yard_has_its_volumes_before_its_fleets(bare: Yard) -> None:
    use = HostSpec(volumes=(VolumeUse("{host}-cache", source="gold"),))
    cache, gold = (
        VolumeSpec("base-cache", size_gib=3),
        VolumeSpec("gold", source="base-cache", snapshot=True),
    )
    declared = Declaration(
        (TemplateTerm(TemplateSpec("stopped", docker="stopped")),),
        (FleetTerm(FleetSpec("web", "stopped", 2, host=use)),),
        volumes=(VolumeTerm(cache), VolumeTerm(gold)),
    )
    planned = bare.apply(declared, check=True).plan.actions
    assert [(a.verb, a.kind, a.name) for a in planned][1:3] == [
        ("create", "volume", "base-cache"),
        ("create", "volume", "gold"),
    ]
    actions = bare.apply(declared).plan.actions
    assert [(a.verb, a.kind, a.name) for a in actions] == [
        (a.verb, a.kind, a.name) for a in planned
    ]
    assert bare.apply(declared).plan.actions == ()
    assert bare.apply(declared, check=True).plan.actions == ()
    assert the(bare, "web-2-cache").size_gib == 3
    absent = replace(
        declared,
        fleets=(),
        volumes=(),
        absent_volumes=(("default", "gold"),),
        absent_fleets=(("default", "web"),),
    )
    assert "delete volume gold: it is declared absent" in map(
        str, bare.apply(absent, check=True).plan.actions
    )
    bare.apply(absent)
    assert [v.name for v in bare.volumes.list()] == ["base-cache", "web-1-cache", "web-2-cache"]


def test_a_saved_plan_does_not_survive_a_change_of_a_volume(bare: Yard, tmp_path: Path) -> None:
    bare.volumes.apply(DATA)
    declared = Declaration(volumes=(VolumeTerm(replace(DATA, size_gib=5)),))
    bare.apply(declared, check=True, save_plan=tmp_path / "plan.json")
    bare.volumes.apply(replace(DATA, size_gib=3))
    with pytest.raises(OperationRefused, match="no longer matches the yard"):
        bare.apply(declared, apply_plan=tmp_path / "plan.json")


def dying(
    hypervisor: FaultyProvider, yard: Yard, monkeypatch: pytest.MonkeyPatch, method: str, nth: int
) -> None:
    """Let the controller die at the n-th call of a method of the volumes' part of the port, after
    it took effect.
    """
    store = hypervisor.inner.volumes
    real, count = getattr(store, method), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        answer = real(*arguments, **options)
        if count == nth:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(store, method, call)


@pytest.mark.parametrize(
    ("method", "nth"),
    [
        ("create", 1),
        *(("claim", n) for n in range(1, 6)),
        ("plug", 1),
        ("unplug", 1),
        ("destroy", 1),
    ],
)
def test_controller_death_at_any_step_is_repaired_by_the_next_run(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch, method: str, nth: int
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=1))
    steps: list[Callable[[], Any]] = [
        lambda: attach(yard, "ci-1"),
        lambda: yard.volumes.detach(DATA.name),
        lambda: yard.volumes.delete(DATA.name),
    ]
    dying(hypervisor, yard, monkeypatch, method, nth)
    died = 0
    for step in steps:
        try:
            step()
        except KeyboardInterrupt:
            died += 1
            yard.reap(grace=3600)
            if yard.volumes.list(name="data") or step is steps[0]:
                step()
    assert died == 1
    assert yard.volumes.list() == ()
    folder = Path(yard.hosts.list()[0].storage) / "volumes"
    assert list(folder.iterdir()) == []
    assert not (disk_of(yard.hosts.list()[0]) / "data.beneath").exists()


def test_interrupted_file_system_is_created_again(two: Yard, hypervisor: FaultyProvider) -> None:
    def die(_answer: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    hypervisor.tamper("volume-create", die)
    with pytest.raises(KeyboardInterrupt):
        attach(two, "ci-1")
    assert the(two, "data").filesystem == "making"
    (disk(two, "data") / ".filesystem").unlink()
    (disk(two, "data") / "torn").write_text("half of it")
    hypervisor.tamper("volume-create", lambda answer: answer)
    attach(two, "ci-1")
    assert the(two, "data").filesystem == "ext4"


def test_data_that_no_record_knows_of_is_never_written_over(two: Yard) -> None:
    (disk(two, "data") / "precious").write_text("put there by hand")
    with pytest.raises(Unsupported, match="not blank"):
        attach(two, "ci-1")
    assert (disk(two, "data") / "precious").exists()
    assert not (disk(two, "data") / ".filesystem").exists()


def test_lost_file_system_is_not_created_again(two: Yard) -> None:
    attach(two, "ci-1")
    two.volumes.detach(DATA.name)
    (disk(two, "data") / ".filesystem").unlink()
    with pytest.raises(GuestError, match="left as it is"):
        attach(two, "ci-1")
    assert list(disk(two, "data").iterdir()) == []


def test_deleted_host_holds_no_volume(two: Yard, hypervisor: FaultyProvider) -> None:
    attach(two, "ci-1")
    record = next(
        h.record for h in hypervisor.inner.observe("stockyard").hosts if h.record.name == "ci-1"
    )
    hypervisor.inner.destroy(record)
    assert the(two, "data").host == "ci-1"
    planned = [str(a) for a in two.reap(dry_run=True, grace=3600).plan.actions]
    assert "detach volume data: its host no longer exists" in planned
    attach(two, "ci-2")
    assert the(two, "data").host == "ci-2"
    hypervisor.inner.destroy(next(h.record for h in hypervisor.inner.observe("stockyard").hosts))
    two.reap(grace=3600)
    assert the(two, "data").host == ""


def test_old_incomplete_volumes_are_reaped(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying(hypervisor, yard, monkeypatch, "create", 1)
    with pytest.raises(KeyboardInterrupt):
        yard.volumes.apply(DATA)
    assert not yard.reap(grace=3600).changed
    assert [v.phase for v in yard.volumes.list()] == ["creating"]
    assert [str(a) for a in yard.reap(grace=0).plan.actions] == [
        "delete volume data: its creation was interrupted"
    ]
    assert yard.volumes.list() == ()


def test_host_without_its_volume_is_deleted_and_the_volume_is_kept(
    stopped: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise HypervisorError("no")

    with monkeypatch.context() as patch:
        patch.setattr(hypervisor.inner.volumes, "plug", fail)
        with pytest.raises(HypervisorError):
            stopped.fleets.apply(fleet(1))
    assert stopped.hosts.list() == ()
    assert [(v.name, v.host) for v in stopped.volumes.list()] == [("web-1-docker", "")]
    stopped.fleets.apply(fleet(1))


def test_guest_that_keeps_a_volume_does_not_prevent_deletion(
    stopped: Yard, hypervisor: FaultyProvider
) -> None:
    stopped.fleets.apply(fleet(1))

    def stuck(_answer: dict[str, Any]) -> dict[str, Any]:
        raise GuestError("target is busy")

    hypervisor.tamper("volume-unmount", stuck)
    stopped.fleets.delete("web")
    assert the(stopped, "web-1-docker").host == ""


def test_another_tenants_volume_is_another_one(two: Yard) -> None:
    two.templates.apply(TemplateSpec("base", tenant="other"))
    two.hosts.apply(SingleSpec("ci-9", "base", tenant="other"))
    attach(two, "ci-1")
    two.volumes.attach(replace(DATA, tenant="other"), host="ci-9", path="/data")
    assert {(v.tenant, v.host) for v in two.volumes.list()} == {
        ("default", "ci-1"),
        ("other", "ci-9"),
    }
    with pytest.raises(NotFound, match="host ci-9: the host does not exist"):
        two.volumes.attach(DATA, host="ci-9", path="/data")
