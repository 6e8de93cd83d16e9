# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named volumes of an endpoint on a yard: volumes with its label, attached to its machines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import InvalidInput, OperationRefused, SingleSpec, TemplateSpec, VolumeSpec, Yard
from stockyard.endpoint.machines import Fork
from stockyard.endpoint.yard_machines import YardMachines
from stockyard.endpoint.yard_volumes import YardVolumes

# As long as act's names.
NAME = f"act-{'Data_1-' * 14}env"
PATH = f"/var/lib/docker/volumes/{NAME}"


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(f"memory://{tmp_path}/yard.json", pki_dir=str(tmp_path / "pki")) as yard:
        yield yard


def volumes(yard: Yard, endpoint: str = "doors") -> YardVolumes:
    return YardVolumes(yard.context, "default", endpoint)


def test_a_volume_has_the_label_of_its_endpoint(yard: Yard) -> None:
    async def story() -> None:
        own = volumes(yard)
        labels = {"com.docker.compose.project": "shop", "long": "two\nlines" * 100}
        for _attempt in range(2):
            await own.create("Data_1", labels)
        await own.create("plain", {})
        # An equal name of another endpoint is another volume.
        await volumes(yard, "other").create("plain", {"of": "other"})
        yard.volumes.apply(VolumeSpec("unrelated"))
        listed = {volume.name: volume for volume in await own.all()}
        assert {name: dict(volume.labels) for name, volume in listed.items()} == {
            "Data_1": labels,
            "plain": {},
        }
        assert listed["plain"].blank
        assert len(yard.volumes.list()) == 4
        for name in ("Data_1", "plain", "unknown"):
            await own.delete(name)
        assert [volume.name for volume in await volumes(yard, "other").all()] == ["plain"]
        with pytest.raises(InvalidInput, match="labels of the volume"):
            await own.create("long", {"text": "x" * 20000})

    asyncio.run(story())


def test_a_volume_moves_between_machines_with_its_data(yard: Yard) -> None:
    async def story() -> None:
        yard.templates.apply(TemplateSpec("docker"))
        yard.hosts.apply(SingleSpec("images", "docker"))
        machines = YardMachines(yard.context, "default", "doors", "images")
        first, second = [await machines.fork(Fork(name)) for name in ("web", "db")]
        own = machines.volumes
        await own.create(NAME, {})
        await own.attach(NAME, first.name, PATH)
        (volume,) = await own.all()
        assert (volume.machine, volume.mounted, volume.blank) == (first.name, True, False)
        with pytest.raises(OperationRefused, match=first.name):
            await own.attach(NAME, second.name, PATH)
        with pytest.raises(OperationRefused):
            await own.delete(NAME)
        for _attempt in range(2):
            await own.detach(NAME)
        await own.attach(NAME, second.name, PATH)
        # A deleted machine releases its volumes.
        await machines.delete(second.name)
        (volume,) = await own.all()
        assert (volume.machine, volume.blank) == ("", False)
        await machines.delete(first.name)
        assert [info.path for info in yard.volumes.list()] == [""]
        await own.delete(NAME)
        await machines.close()
        assert yard.volumes.list() == ()

    asyncio.run(story())
