# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a whole yard away, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard import (
    Busy,
    FleetSpec,
    HypervisorError,
    SingleSpec,
    StockyardError,
    TemplateSpec,
    Yard,
)
from stockyard.clock import Deadline
from tests.helpers.faulty_provider import FaultyProvider


def fill(yard: Yard) -> None:
    yard.templates.apply(TemplateSpec("base", tenant="other"))
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    yard.fleets.apply(FleetSpec("web", "base", tenant="other"))
    yard.hosts.apply(SingleSpec("solo", "base"))


def test_teardown_deletes_the_whole_yard(yard: Yard) -> None:
    fill(yard)
    checked = yard.teardown(templates=True, check=True)
    assert (len(yard.hosts.list()), len(yard.templates.list())) == (4, 2)
    result = yard.teardown(templates=True)
    assert result.plan == checked.plan
    assert len(result.plan.actions) == 6
    assert (yard.hosts.list(), yard.templates.list()) == ((), ())
    assert not yard.teardown(templates=True).changed


def test_teardown_keeps_templates_by_default(yard: Yard) -> None:
    fill(yard)
    assert [a.kind for a in yard.teardown().plan.actions] == ["host"] * 4
    assert (yard.hosts.list(), len(yard.templates.list())) == ((), 2)


def test_nothing_is_left_on_the_hypervisors_disk(yard: Yard, tmp_path: Path) -> None:
    fill(yard)
    yard.teardown(templates=True)
    remaining_files = [p for p in (tmp_path / "hypervisor.d").rglob("*") if not p.is_dir()]
    assert remaining_files == []
    assert list((tmp_path / "hypervisor.d" / "disks").iterdir()) == []


def test_teardown_deletes_incomplete_hosts(yard: Yard, hypervisor: FaultyProvider) -> None:
    for step in ("fork", "destroy"):
        hypervisor.fail(step, HypervisorError("no."))
    with pytest.raises(StockyardError, match="its remains could not be deleted"):
        yard.fleets.apply(FleetSpec("ci", "base"))
    assert len(yard.hosts.list()) == 1
    yard.teardown()
    assert yard.hosts.list() == ()


def test_a_neighbours_yard_stays(yard: Yard, uri: str, tmp_path: Path) -> None:
    with Yard(uri, owner="neighbour", pki_dir=str(tmp_path / "theirs")) as neighbour:
        neighbour.templates.apply(TemplateSpec("base"))
        before = neighbour.fleets.apply(FleetSpec("ci", "base")).objects
        fill(yard)
        yard.teardown(templates=True)
        assert neighbour.hosts.list() == before
        assert len(neighbour.templates.list()) == 1


def test_teardown_of_a_locked_yard_is_busy(yard: Yard) -> None:
    fill(yard)
    with (
        yard.context.provider.exclusive("stockyard.default.fleet.ci", Deadline(1)),
        pytest.raises(Busy),
    ):
        yard.teardown()
    yard.teardown()
    assert yard.hosts.list() == ()


def test_image_that_another_owner_is_about_to_use_stays(yard: Yard, tmp_path: Path) -> None:
    images = tmp_path / "hypervisor.d" / "images"
    (own,) = images.iterdir()
    foreign_image = images / f"{'0' * 64}.json"
    foreign_image.write_text("{}")
    yard.teardown(templates=True)
    assert list(images.iterdir()) == [foreign_image]
    assert not own.exists()
