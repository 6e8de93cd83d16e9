# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes that a template allows for its forks: no more than vCenter can add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard.model.template import Hardware
from stockyard.providers.vsphere import grow
from tests.helpers.samples import template_record

RECORD = replace(template_record(), hardware=Hardware(vcpus=2, max_vcpus=8), max_memory_mib=8192)


@pytest.mark.parametrize(
    ("cpus", "memory", "limit", "room"),
    [
        (True, True, 0, (8, 8192)),
        (False, True, 16384, (2, 8192)),
        (True, True, 4096, (8, 4096)),
        (True, False, 4096, (8, 0)),
        (None, None, None, (2, 0)),
    ],
)
def test_template_capabilities_follow_its_machine(
    monkeypatch: pytest.MonkeyPatch, cpus: Any, memory: Any, limit: Any, room: tuple[int, int]
) -> None:
    answers = {grow.ADDS_CPUS: cpus, grow.ADDS_MEMORY: memory, grow.LIMIT: limit}
    monkeypatch.setattr(grow, "properties", lambda *_arguments: answers)
    hardware, most = grow.room(None, None, RECORD)  # type: ignore[arg-type]
    assert (hardware.max_vcpus, most) == room
    assert replace(hardware, max_vcpus=8) == RECORD.hardware
