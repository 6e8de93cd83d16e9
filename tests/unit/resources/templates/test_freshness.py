# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations: new ones after package updates or a maximum age, old ones while hosts use them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    BuildOptions,
    FleetSpec,
    GuestError,
    HypervisorError,
    ImageError,
    ImageSpec,
    InvalidInput,
    MissingUpdate,
    Repository,
    TemplateSpec,
    Yard,
)
from stockyard.model.naming import duration
from stockyard.model.observation import Template
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.values import present

DAY = 86400.0
BASE = TemplateSpec("base")
FRESH = replace(BASE, upgrade=True)
CHANGED = replace(BASE, image=ImageSpec(packages=("busybox",)))
FLEET = FleetSpec("ci", "base", count=2)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """The mirror of the test's hypervisor."""
    return tmp_path / "hypervisor.d" / "mirror.json"


def move(mirror: Path, **versions: str) -> None:
    mirror.write_text(json.dumps(versions))


def verbs(result: Any) -> list[str]:
    return [f"{a.verb} {a.name}" for a in result.plan.actions]


def templates(yard: Yard) -> list[Template]:
    return sorted(
        yard.context.provider.observe("stockyard").templates, key=lambda t: t.record.since
    )


def ruling(yard: Yard) -> str:
    return str(yard.templates.list()[-1].generation)


def test_later_packages_build_a_new_generation_and_the_fleet_moves(
    yard: Yard, mirror: Path, clock: FakeClock
) -> None:
    yard.fleets.apply(FLEET)
    assert not yard.templates.apply(FRESH).changed
    clock.sleep(1)
    move(mirror, **{"openssh-server": "2", "sudo": "1~rc1"})
    dry = yard.templates.apply(FRESH, check=True)
    assert [a.reason for a in dry.plan.actions] == ["package updates: openssh-server 1 -> 2"]
    assert len(templates(yard)) == 1
    assert not yard.templates.apply(BASE).changed
    assert verbs(yard.templates.apply(FRESH)) == ["build base"]
    assert not yard.templates.apply(FRESH).changed
    assert yard.fleets.list()[0].outdated == ("ci-1", "ci-2")
    assert yard.fleets.apply(FLEET).changed
    assert {h.generation for h in yard.hosts.list()} == {ruling(yard)}
    assert yard.fleets.list()[0].outdated == ()


def test_older_mirror_builds_nothing(yard: Yard, mirror: Path) -> None:
    move(mirror, sudo="1~rc1")
    assert not yard.templates.apply(FRESH).changed


def test_existing_generation_is_not_built_again(
    yard: Yard, mirror: Path, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    first = ruling(yard)
    clock.sleep(1)
    move(mirror, sudo="2")
    yard.templates.apply(FRESH)
    clock.sleep(1)
    # A declaration that changes and comes back, while the mirror went back.
    move(mirror, sudo="1")
    yard.templates.apply(CHANGED)
    clock.sleep(1)
    hypervisor.calls.clear()
    yard.templates.apply(replace(BASE, keep_generations=3))
    assert ruling(yard) != first
    assert hypervisor.calls["freeze"] == 0


def test_unreadable_mirror_is_an_error_and_changes_nothing(yard: Yard, mirror: Path) -> None:
    mirror.write_text("[")
    with pytest.raises(ImageError, match="mirror"):
        yard.templates.apply(FRESH)
    assert len(templates(yard)) == 1
    assert not yard.templates.apply(BASE).changed


def test_image_with_unknown_packages_is_built_again(
    yard: Yard, mirror: Path, clock: FakeClock
) -> None:
    for image in (mirror.parent / "images").iterdir():
        image.unlink()
    clock.sleep(1)
    assert yard.templates.apply(FRESH, check=True).changed


def test_age_alone_builds_a_new_generation(yard: Yard, clock: FakeClock) -> None:
    aging = replace(BASE, max_age=7 * DAY)
    first = ruling(yard)
    clock.sleep(6 * DAY)
    assert not yard.templates.apply(aging).changed
    clock.sleep(DAY)
    result = yard.templates.apply(aging)
    assert [a.reason for a in result.plan.actions] == ["it is older than 7 days, 0:00:00"]
    assert ruling(yard) != first
    assert {t.record.image for t in templates(yard)} == {templates(yard)[0].record.image}
    assert not yard.templates.apply(aging).changed
    clock.sleep(7 * DAY)
    assert yard.templates.apply(aging).changed


def test_earlier_declaration_is_promoted_again(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    first = ruling(yard)
    for spec, verb in ((CHANGED, "build base"), (BASE, "promote base"), (CHANGED, "promote base")):
        clock.sleep(1)
        assert verbs(yard.templates.apply(spec, check=True)) == [verb]
        assert verbs(yard.templates.apply(spec)) == [verb]
        assert not yard.templates.apply(spec).changed
        assert (ruling(yard) == first) == (spec is BASE)
        assert yard.fleets.apply(FLEET).objects[0].generation == ruling(yard)


def test_a_clock_that_is_behind_does_not_keep_a_generation_from_ruling(
    yard: Yard, clock: FakeClock
) -> None:
    yard.templates.apply(CHANGED)
    clock.sleep(-3600)
    yard.templates.apply(BASE)
    assert not yard.templates.apply(BASE).changed
    later = TemplateSpec("base", image=ImageSpec(files={"/etc/x": "y"}))
    yard.templates.apply(later)
    assert not yard.templates.apply(later).changed
    assert yard.templates.get("base").generation == templates(yard)[-1].record.generation[:12]


# Old generations


def generation(number: int) -> TemplateSpec:
    return TemplateSpec("base", image=ImageSpec(files={"/etc/number": str(number)}))


def test_old_generations_go_when_no_host_lives_on_them(yard: Yard, clock: FakeClock) -> None:
    yard.fleets.apply(FLEET)
    first = ruling(yard)
    for number in range(3):
        clock.sleep(1)
        yard.templates.apply(generation(number))
    assert [t.record.generation[:12] == first for t in templates(yard)] == [True, False, False]
    yard.fleets.apply(FLEET)
    dry = yard.templates.apply(generation(2), check=True)
    assert verbs(dry) == [f"delete base ({first})"]
    assert len(templates(yard)) == 3
    assert verbs(yard.templates.apply(generation(2))) == verbs(dry)
    assert len(templates(yard)) == 2
    assert not yard.templates.apply(generation(2)).changed
    assert verbs(yard.templates.apply(replace(generation(2), keep_generations=1)))[0].startswith(
        "delete base ("
    )
    assert len(templates(yard)) == 1


def test_plan_with_a_build_names_the_pruned_generations(yard: Yard, clock: FakeClock) -> None:
    first = ruling(yard)
    clock.sleep(1)
    yard.templates.apply(generation(1))
    clock.sleep(1)
    dry = yard.templates.apply(generation(2), check=True)
    assert verbs(dry) == ["build base", f"delete base ({first})"]
    assert verbs(yard.templates.apply(generation(2))) == verbs(dry)


def test_no_generation_is_deleted_while_a_record_cannot_be_read(
    yard: Yard, clock: FakeClock, tmp_path: Path
) -> None:
    state = tmp_path / "hypervisor"
    state.write_text(
        state.read_text() + json.dumps(["stockyard.default.lost", {"record": "garbage"}]) + "\n"
    )
    for number in range(3):
        clock.sleep(1)
        yard.templates.apply(generation(number))
    assert len(templates(yard)) == 4
    assert not yard.templates.apply(generation(2)).changed


def test_interrupted_replacement_is_completed_by_the_next_run(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    clock.sleep(1)
    yard.templates.apply(generation(1))
    clock.sleep(1)
    hypervisor.fail("destroy", HypervisorError("the controller is dead."))
    with pytest.raises(HypervisorError):
        yard.templates.apply(generation(2))
    assert len(templates(yard)) == 3
    assert [a.verb for a in yard.templates.apply(generation(2)).plan.actions] == ["delete"]
    assert not yard.templates.apply(generation(2)).changed


def test_broken_generation_loses_only_its_first_new_host(
    yard: Yard, mirror: Path, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    before = yard.fleets.apply(FLEET).objects
    clock.sleep(1)
    move(mirror, **{"docker.io": "2"})
    yard.templates.apply(FRESH)
    hypervisor.calls.clear()

    def broken(_answer: object) -> dict[str, Any]:
        raise GuestError("dockerd does not start.")

    hypervisor.tamper("settle", broken)
    with pytest.raises(GuestError):
        yard.fleets.apply(FLEET)
    assert hypervisor.calls["create_host"] == 1
    assert yard.hosts.list() == before


# Missing updates of hosts


def test_a_host_that_lacks_an_update_is_seen(yard: Yard, mirror: Path, clock: FakeClock) -> None:
    yard.fleets.apply(FLEET)
    assert [h.missing_updates for h in yard.hosts.list(check_updates=True)] == [(), ()]
    assert "missing_updates" not in yard.hosts.list()[0].to_dict()
    move(mirror, sudo="2")
    lacks = (MissingUpdate("sudo", "1", "2"),)
    assert [h.missing_updates for h in yard.hosts.list(check_updates=True)] == [lacks, lacks]
    assert yard.fleets.list(check_updates=True)[0].missing_updates == {
        "ci-1": lacks,
        "ci-2": lacks,
    }
    clock.sleep(1)
    yard.templates.apply(FRESH)
    yard.fleets.apply(replace(FLEET, name="web", count=1))
    assert yard.fleets.list(check_updates=True)[1].missing_updates == {"web-1": ()}
    assert yard.fleets.list(check_updates=True)[0].missing_updates == {
        "ci-1": lacks,
        "ci-2": lacks,
    }


def test_each_mirror_is_asked_once(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    clock.sleep(1)
    yard.templates.apply(generation(1))
    yard.fleets.apply(replace(FLEET, count=4))
    hypervisor.calls.clear()
    yard.hosts.list(check_updates=True)
    assert hypervisor.calls["resolve"] == 1
    yard.hosts.list()
    assert hypervisor.calls["resolve"] == 1


def test_image_without_package_records_has_unknown_freshness(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    yard.context.provider.claim(templates(yard)[0].record, source=None)
    assert [h.missing_updates for h in yard.hosts.list(check_updates=True)] == [None, None]


KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----\n"


def test_no_password_of_a_mirror_is_on_record(yard: Yard) -> None:
    options = BuildOptions(
        "http://me:secret@mirror/debian",
        "https://secret@mirror/security",
        "http://u:secret@proxy:1",
        (Repository("https://me:secret@ours/debian", KEY),),
    )
    yard.templates.apply(TemplateSpec("other", build=options))
    assert "secret" not in str(yard.templates.list(name="other"))
    build = present(yard.templates.get("other").source).build
    assert build.mirror == "http://mirror/debian"
    assert [repository.url for repository in build.repositories] == ["https://ours/debian"]


# Bad input


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": 0.0},
        {"max_age": float("nan")},
        {"keep_generations": 0},
        {"keep_generations": True},
    ],
)
def test_a_template_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TemplateSpec("base", **options)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), ("90s", 90), ("1.5h", 5400), ("7d", 7 * DAY), ("2w", 14 * DAY)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert duration("max_age", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "d", "-1d", "1 d", "1y", "1e3", "nan", "inf", "９d", True, None, [], "1" * 40]
)
def test_invalid_maximum_age_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        duration("max_age", text)
