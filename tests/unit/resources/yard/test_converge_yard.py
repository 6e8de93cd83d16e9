# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole yards: made as declared, pruned with care, by plans that were looked at before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    HypervisorError,
    ImageError,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    PoolSpec,
    PoolTerm,
    SingleSpec,
    StockyardError,
    TemplateSpec,
    TemplateTerm,
    VolumeSpec,
    VolumeTerm,
    Yard,
)
from stockyard.model.network import EVERYWHERE
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider


def declared(
    *fleets: FleetSpec, templates: tuple[TemplateSpec, ...] | None = None, **options: Any
) -> Declaration:
    declared_templates = (TemplateSpec("base"),) if templates is None else templates
    return Declaration(
        tuple(map(TemplateTerm, declared_templates)), tuple(map(FleetTerm, fleets)), **options
    )


CI, WEB = FleetSpec("ci", "base", count=2), FleetSpec("web", "base")
BOTH = declared(CI, WEB)


def told(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def names(yard: Yard) -> list[str]:
    return [h.name for h in yard.hosts.list()]


def test_yard_is_created_and_then_unchanged(bare: Yard, tmp_path: Path) -> None:
    dry = bare.apply(BOTH, check=True)
    assert told(dry) == ["build base", "create ci-1", "create ci-2", "create web-1"]
    assert list(tmp_path.iterdir()) == []
    first_result = bare.apply(BOTH)
    assert told(first_result) == told(dry)
    assert [h.name for h in first_result.objects] == names(bare) == ["ci-1", "ci-2", "web-1"]
    assert not bare.apply(BOTH).changed
    assert not bare.apply(BOTH, check=True).changed


def test_check_mode_names_the_hosts_that_a_new_template_replaces(
    bare: Yard, clock: FakeClock, tmp_path: Path
) -> None:
    bare.apply(BOTH)
    clock.sleep(1)
    (tmp_path / "hypervisor.d" / "mirror.json").write_text('{"docker.io": "2"}')
    assert not bare.apply(BOTH, check=True).changed
    dry = bare.apply(BOTH.rebuilt(), check=True)
    assert dry.plan.actions[0].reason == "package updates: docker.io 1 -> 2"
    result = bare.apply(BOTH.rebuilt())
    assert told(dry) == told(result)
    assert {a.name for a in dry.plan.actions if a.verb == "delete"} == {"ci-1", "ci-2", "web-1"}
    assert not bare.apply(BOTH.rebuilt()).changed
    assert [h.missing_updates for h in bare.hosts.list(check_updates=True)] == [(), (), ()]


def test_plan_deletes_generations_that_become_unused(bare: Yard, clock: FakeClock) -> None:
    def at(number: int) -> Declaration:
        image = ImageSpec(files={"/etc/number": str(number)})
        return declared(WEB, templates=(TemplateSpec("base", image=image, keep_generations=1),))

    for number in (1, 2, 3):
        clock.sleep(1)
        dry, applied = bare.apply(at(number), check=True), bare.apply(at(number))
        assert told(dry) == told(applied)
        assert len(bare.templates.list()) == 1
        assert not bare.apply(at(number)).changed
    clock.sleep(1)
    assert told(bare.apply(at(3), check=True)) == []


def test_undeclared_objects_are_pruned_on_request(bare: Yard, uri: str, tmp_path: Path) -> None:
    old = TemplateSpec("old")
    bare.apply(declared(CI, WEB, FleetSpec("gone", "old"), templates=(TemplateSpec("base"), old)))
    bare.hosts.apply(SingleSpec("alone", "base"))
    with Yard(uri, owner="neighbour", pki_dir=str(tmp_path / "theirs")) as neighbour:
        neighbour.apply(declared(FleetSpec("gone", "base")))
        assert not bare.apply(declared(CI)).changed
        dry = bare.apply(declared(CI, prune="force"), check=True)
        assert told(dry) == ["delete gone-1", "delete web-1", "delete old"]
        assert told(bare.apply(declared(CI, prune="force"))) == told(dry)
        assert names(bare) == ["alone", "ci-1", "ci-2"]
        assert names(neighbour) == ["gone-1"]
        assert [t.name for t in neighbour.templates.list()] == ["base"]
    assert not bare.apply(declared(CI, prune="yes")).changed


def test_leased_host_of_an_undeclared_fleet_is_kept(bare: Yard, clock: FakeClock) -> None:
    old = TemplateSpec("old")
    both = (TemplateSpec("base"), old)
    bare.apply(declared(CI, FleetSpec("gone", "old", count=2), templates=both))
    lease = bare.leases.acquire("gone", holder="job", duration=600)
    (free,) = {"gone-1", "gone-2"} - {lease.host}
    remaining = declared(CI, prune="force")
    assert (
        told(bare.apply(remaining, check=True)) == told(bare.apply(remaining)) == [f"delete {free}"]
    )
    assert not bare.apply(remaining).changed
    assert lease.host in names(bare)
    clock.sleep(601)
    assert (
        told(bare.apply(remaining, check=True))
        == told(bare.apply(remaining))
        == [f"delete {lease.host}", "delete old"]
    )


def test_fleet_declared_absent_is_deleted_with_its_leases(bare: Yard) -> None:
    bare.apply(BOTH)
    bare.leases.acquire("web", holder="job", duration=600)
    assert told(bare.apply(declared(CI, absent_fleets=(("default", "web"),)))) == ["delete web-1"]


@pytest.mark.parametrize("check", [True, False])
def test_fleet_that_is_not_declared_is_deleted_only_when_confirmed(bare: Yard, check: bool) -> None:
    bare.apply(declared(CI, WEB, templates=(TemplateSpec("base"), TemplateSpec("old"))))
    larger = replace(CI, count=3)
    with pytest.raises(
        OperationRefused, match=r"delete 1 of 3 hosts \(web-1\)\. Nothing was changed.*fleet web of"
    ) as refused:
        bare.apply(declared(larger, prune="yes"), check=check)
    assert "state: absent" in refused.value.remedy
    assert names(bare) == ["ci-1", "ci-2", "web-1"]
    assert {t.name for t in bare.templates.list()} == {"base", "old"}


@pytest.mark.parametrize(
    "explicit",
    [
        declared(CI, absent_fleets=(("default", "web"),), prune="yes"),
        declared(CI, replace(WEB, count=0), prune="yes"),
        declared(CI, prune="force"),
    ],
)
def test_fleet_that_is_declared_absent_or_empty_is_deleted(
    bare: Yard, explicit: Declaration
) -> None:
    bare.apply(BOTH)
    assert told(bare.apply(explicit)) == ["delete web-1"]


def test_fleet_that_is_not_declared_is_deleted_by_a_saved_plan(bare: Yard, tmp_path: Path) -> None:
    bare.apply(BOTH)
    path, remaining = tmp_path / "plan.json", declared(CI, prune="yes")
    lines: list[str] = []
    bare.context = replace(bare.context, progress=lines.append)
    assert told(bare.apply(remaining, check=True, save_plan=path)) == ["delete web-1"]
    (line,) = lines
    assert (
        "the plan deletes 1 of 3 hosts because these objects are not declared: fleet web of tenant "
        "default" in line
    )
    with pytest.raises(OperationRefused, match="Nothing was changed"):
        bare.apply(remaining, save_plan=tmp_path / "other.json")
    assert told(bare.apply(remaining, apply_plan=path)) == ["delete web-1"]


def test_fleet_created_by_a_parallel_run_is_kept(bare: Yard, uri: str, tmp_path: Path) -> None:
    bare.apply(BOTH)

    def make_another(_line: str) -> None:
        with Yard(uri, pki_dir=str(tmp_path / "pki")) as other_yard:
            other_yard.fleets.apply(replace(WEB, name="late"))

    bare.context = replace(bare.context, progress=make_another)
    bare.apply(declared(replace(CI, count=3), WEB, prune="yes"))
    assert "late-1" in names(bare)


def test_an_empty_declaration_takes_nothing_unless_forced(bare: Yard) -> None:
    bare.apply(BOTH)
    assert not bare.apply(declared(templates=(), prune="yes")).changed
    assert not bare.apply(declared(prune="yes")).changed
    # The hosts were created at the same time.
    assert sorted(told(bare.apply(declared(templates=(), prune="force")))) == [
        "delete base",
        "delete ci-1",
        "delete ci-2",
        "delete web-1",
    ]
    assert (bare.hosts.list(), bare.templates.list()) == ((), ())


def test_a_template_under_a_host_of_its_own_stays(bare: Yard) -> None:
    bare.apply(declared(CI, templates=(TemplateSpec("base"), TemplateSpec("old"))))
    bare.hosts.apply(SingleSpec("alone", "old"))
    assert not bare.apply(declared(CI, prune="yes")).changed
    assert {t.name for t in bare.templates.list()} == {"base", "old"}
    absent = declared(CI, absent_templates=(("default", "old"),))
    with pytest.raises(OperationRefused, match="hosts of the template exist"):
        bare.apply(absent)


def test_no_template_is_deleted_while_a_record_cannot_be_read(bare: Yard, tmp_path: Path) -> None:
    bare.apply(declared(CI, templates=(TemplateSpec("base"), TemplateSpec("old"))))
    state = tmp_path / "hypervisor"
    state.write_text(
        state.read_text() + json.dumps(["stockyard.default.lost", {"record": "garbage"}]) + "\n"
    )
    assert not bare.apply(declared(CI, prune="yes")).changed
    assert len(bare.templates.list()) == 2


def test_failure_does_not_stop_other_objects_and_prevents_pruning(
    bare: Yard, hypervisor: FaultyProvider
) -> None:
    bare.apply(declared(FleetSpec("old", "base")))
    hypervisor.fail("fork", HypervisorError("the disk is on fire."))
    with pytest.raises(HypervisorError, match="on fire"):
        bare.apply(declared(CI, WEB, prune="force"))
    assert len(names(bare)) == 3
    assert {"web-1", "old-1"} <= set(names(bare))
    assert bare.apply(declared(CI, WEB, prune="force")).changed
    assert names(bare) == ["ci-1", "ci-2", "web-1"]


def test_all_failures_of_a_yard_are_reported(bare: Yard, hypervisor: FaultyProvider) -> None:
    for call in (1, 2):
        hypervisor.fail("fork", HypervisorError("the disk is on fire."), call=call)
    with pytest.raises(StockyardError, match=r"2 parts of the yard failed.*on fire.*on fire"):
        bare.apply(declared(FleetSpec("a", "base"), FleetSpec("b", "base")))


def test_remedies_of_all_failures_are_reported_once(bare: Yard, hypervisor: FaultyProvider) -> None:
    for call, remedy in ((1, "extinguish the fire."), (2, "extinguish the fire."), (3, "run away")):
        hypervisor.fail("fork", HypervisorError("it burns.", remedy=remedy), call=call)
    with pytest.raises(StockyardError, match="3 parts of the yard failed") as caught:
        bare.apply(declared(*(FleetSpec(name, "base") for name in ("a", "b", "c"))))
    assert caught.value.remedy == "extinguish the fire; run away"
    assert "Remedy" not in caught.value.cause


@pytest.mark.parametrize("templates", [("new",), ("new", "derived")])
def test_fleet_of_a_template_that_failed_names_that_failure(
    bare: Yard, hypervisor: FaultyProvider, templates: tuple[str, ...]
) -> None:
    hypervisor.fail("ensure_image", ImageError("no mirror.", remedy="repair the mirror"))
    parents = ("", *templates)
    specs = [TemplateSpec(name, parent=parents[place]) for place, name in enumerate(templates)]
    declaration = declared(FleetSpec("ci", templates[-1]), templates=tuple(specs))
    with pytest.raises(StockyardError, match="no mirror") as caught:
        bare.apply(declaration)
    explanation = (
        "fleet ci: its template could not be built. Cause: see the error of template "
        f"{templates[-1]}"
    )
    assert explanation in str(caught.value)
    assert "repair the mirror" in caught.value.remedy
    assert "declare" not in str(caught.value)
    assert "create the template" not in str(caught.value)
    assert bare.apply(declaration).changed


def test_missing_package_is_reported_in_check_mode(bare: Yard, tmp_path: Path) -> None:
    (tmp_path / "hypervisor.d").mkdir()
    (tmp_path / "hypervisor.d" / "mirror.json").write_text('{"nosuch": null}')
    template = TemplateSpec("base", image=ImageSpec(packages=("nosuch",)))
    with pytest.raises(ImageError, match="no package nosuch"):
        bare.apply(declared(CI, templates=(template,)), check=True)


# Names that stand for nothing

IN_POOL = HostSpec(pool="none")
OLD = (("default", "old"),)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            declared(CI, FleetSpec("a", "not-there")),
            ("fleet a: the declaration needs template not-there"),
        ),
        (
            declared(FleetSpec("a", "no"), FleetSpec("b", "nor")),
            "fleet a: .* template no,.*fleet b needs template nor",
        ),
        (
            declared(CI, FleetSpec("a", "base", tenant="other")),
            ("fleet a: the declaration needs template base"),
        ),
        (
            declared(CI, FleetSpec("a", "old"), absent_templates=OLD),
            "fleet a: the declaration needs template old",
        ),
        (
            declared(CI, FleetSpec("a", "base", host=IN_POOL)),
            "fleet a: the declaration needs pool none",
        ),
        (
            declared(CI, pools=(PoolTerm(PoolSpec("in", parent="none")),)),
            "pool in: the declaration needs pool none",
        ),
        (
            declared(CI, volumes=(VolumeTerm(VolumeSpec("copy", source="none")),)),
            "volume copy: the declaration needs volume none",
        ),
    ],
)
def test_missing_dependency_is_refused_before_any_change(
    bare: Yard, wrong: Declaration, message: str, check: bool
) -> None:
    bare.templates.apply(TemplateSpec("old"))
    with pytest.raises(NotFound, match=message):
        bare.apply(wrong, check=check)
    assert (bare.hosts.list(), bare.pools.list()) == ((), ())
    assert [t.name for t in bare.templates.list()] == ["old"]


def test_existing_copy_needs_no_source(bare: Yard) -> None:
    copies = (VolumeTerm(VolumeSpec("golden")), VolumeTerm(VolumeSpec("copy", source="golden")))
    bare.apply(declared(CI, volumes=copies))
    bare.volumes.delete("golden")
    assert not bare.apply(declared(CI, volumes=copies[1:])).changed


def test_pools_are_not_inside_themselves() -> None:
    inside = {"a": "b", "b": "c", "c": "a", "d": "a"}
    with pytest.raises(InvalidInput, match="pool a: the pool would be inside itself"):
        declared(
            pools=tuple(PoolTerm(PoolSpec(name, parent=parent)) for name, parent in inside.items())
        )


@pytest.mark.parametrize("bind", ["127.0.0.1", EVERYWHERE])
def test_two_fleets_do_not_publish_the_same_port(bind: str) -> None:
    host = HostSpec(bind="127.0.0.1", ports=(8080,))
    first, second = (
        FleetSpec("one", "base", host=host),
        FleetSpec("two", "base", host=replace(host, bind=bind)),
    )
    with pytest.raises(
        InvalidInput, match=r"fleet two: port 8080 cannot be published on .*another fleet"
    ):
        declared(first, second)
    declared(
        first,
        replace(second, host=HostSpec(bind="127.0.0.2", ports=(8080,))),
        replace(second, name="off", count=0),
    )


def test_existing_object_need_not_be_declared(bare: Yard) -> None:
    bare.templates.apply(TemplateSpec("old"))
    bare.pools.apply(PoolSpec("outer"))
    inner = PoolTerm(PoolSpec("inner", parent="outer"))
    fleet = FleetSpec("a", "old", host=HostSpec(pool="inner"))
    assert told(
        bare.apply(declared(fleet, FleetSpec("none", "nowhere", count=0), pools=(inner,)))
    ) == ["create inner", "build base", "create a-1"]


@pytest.mark.parametrize("check", [True, False])
def test_objects_kept_by_an_empty_declaration_are_reported(
    bare: Yard, uri: str, clock: FakeClock, tmp_path: Path, check: bool
) -> None:
    bare.apply(BOTH)
    lines: list[str] = []
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=clock, progress=lines.append) as yard:
        assert not yard.apply(declared(prune="yes"), check=check).changed
    assert lines == [
        "no fleets are declared, probably by mistake; retaining ci, web (prune: force deletes them)"
    ]


# Saved plans


@pytest.fixture
def saved(bare: Yard, tmp_path: Path) -> Path:
    """The plan of a yard that is about to grow."""
    bare.apply(BOTH)
    path = tmp_path / "plan.json"
    assert bare.apply(MORE, check=True, save_plan=path).changed
    return path


MORE = declared(replace(CI, count=3), replace(WEB, labels={"a": "b"}))


def test_plan_that_cannot_be_carried_out_is_not_saved(bare: Yard, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    (tmp_path / "hypervisor.d").mkdir()
    (tmp_path / "hypervisor.d" / "mirror.json").write_text('{"nosuch": null}')
    template = TemplateSpec("base", image=ImageSpec(packages=("nosuch",)))
    with pytest.raises(ImageError, match="nosuch"):
        bare.apply(Declaration(templates=(TemplateTerm(template),)), check=True, save_plan=path)
    assert list(tmp_path.glob("plan*")) == []


def test_a_saved_plan_is_shown_and_applied(bare: Yard, saved: Path) -> None:
    page = saved.with_suffix(".md").read_text()
    assert "| create | host ci-3 | the fleet has 2 of 3 hosts |" in page
    assert "| relabel | host web-1 | labels changed |" in page
    assert (saved.stat().st_mode & 0o777, len(list(saved.parent.glob("plan*")))) == (0o644, 2)
    assert told(bare.apply(MORE, apply_plan=saved, check=True)) == ["create ci-3", "relabel web-1"]
    assert told(bare.apply(MORE, apply_plan=saved)) == ["create ci-3", "relabel web-1"]
    with pytest.raises(OperationRefused, match="create host ci-3 is no longer planned"):
        bare.apply(MORE, apply_plan=saved)


def test_plan_is_refused_after_a_change_of_its_objects(bare: Yard, saved: Path) -> None:
    bare.hosts.replace("web-1")
    before = bare.hosts.list()
    with pytest.raises(OperationRefused, match="host default/web-1 was replaced"):
        bare.apply(MORE, apply_plan=saved)
    assert bare.hosts.list() == before


def test_a_plan_is_refused_when_the_declaration_changed(bare: Yard, saved: Path) -> None:
    with pytest.raises(OperationRefused, match="create host ci-4 is now planned as well"):
        bare.apply(declared(replace(CI, count=4), MORE.fleets[1].spec), apply_plan=saved)


def test_a_plan_is_refused_when_its_template_is_another_one(
    bare: Yard, saved: Path, clock: FakeClock
) -> None:
    clock.sleep(1)
    bare.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("busybox",))))
    clock.sleep(1)
    bare.templates.apply(TemplateSpec("base"))
    with pytest.raises(OperationRefused, match=r"template default/base/.* was changed"):
        bare.apply(MORE, apply_plan=saved)


def test_plan_is_valid_after_a_change_of_other_objects(bare: Yard, saved: Path) -> None:
    bare.hosts.restart("ci-1")
    bare.hosts.apply(SingleSpec("alone", "base"))
    assert bare.apply(MORE, apply_plan=saved).changed


@pytest.mark.parametrize("text", ["", "[", "{}", "5", '{"format": 1}'])
def test_invalid_plan_file_changes_nothing(bare: Yard, saved: Path, text: str) -> None:
    saved.write_text(text)
    with pytest.raises(InvalidInput):
        bare.apply(MORE, apply_plan=saved)
    assert names(bare) == ["ci-1", "ci-2", "web-1"]


def test_missing_plan_file_changes_nothing(bare: Yard, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        bare.apply(BOTH, apply_plan=tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="cannot be saved"):
        bare.apply(BOTH, check=True, save_plan=tmp_path / "none" / "plan.json")
    with pytest.raises(InvalidInput, match=r"must end with \.json"):
        bare.apply(BOTH, check=True, save_plan=tmp_path / "plan.md")
    assert bare.hosts.list() == ()


def test_number_of_observations_does_not_grow_with_the_yard(
    bare: Yard, hypervisor: FaultyProvider
) -> None:
    observations = []
    for count in (1, 12):
        fleets = (replace(CI, count=count), replace(WEB, count=count))
        bare.apply(declared(*fleets))
        hypervisor.calls.clear()
        bare.apply(declared(*fleets), check=True)
        observations.append(
            hypervisor.calls.total() - hypervisor.calls["facts"] - hypervisor.calls["channel"]
        )
    assert observations[0] == observations[1]
