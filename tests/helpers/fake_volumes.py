# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the named volumes of an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from stockyard.endpoint.named_volumes import NamedVolume
from stockyard.errors import OperationRefused


class FakeVolumes:
    """The named volumes of the fake machines.

    :param attached: the machine and the path of each attached volume.
    """

    def __init__(self) -> None:
        self.labels: dict[str, dict[str, str]] = {}
        self.attached: dict[str, tuple[str, str]] = {}
        self.written: set[str] = set()
        self.attachments: list[tuple[str, str]] = []

    async def all(self) -> list[NamedVolume]:
        return [
            NamedVolume(
                name,
                labels,
                1.0,
                self.attached.get(name, ("", ""))[0],
                mounted=name in self.attached,
                blank=name not in self.written,
            )
            for name, labels in self.labels.items()
        ]

    async def create(self, name: str, labels: Mapping[str, str]) -> None:
        self.labels.setdefault(name, dict(labels))

    async def delete(self, name: str) -> None:
        if name in self.attached:
            raise OperationRefused(f"the volume {name} is attached.")
        self.labels.pop(name, None)
        self.written.discard(name)

    async def allocated(self, name: str) -> int:
        return 1000 if name in self.labels else 0

    async def attach(self, name: str, machine: str, path: str) -> None:
        holder = self.attached.setdefault(name, (machine, path))
        if holder != (machine, path):
            raise OperationRefused(f"the volume {name} is attached to {holder[0]}.")
        await asyncio.sleep(0.01)
        self.attachments.append((name, machine))
        self.written.add(name)

    async def detach(self, name: str) -> None:
        await asyncio.sleep(0.01)
        self.attached.pop(name, None)
