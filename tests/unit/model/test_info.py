# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of objects: what is documented, and what is returned."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

import stockyard
from stockyard import FleetInfo, MemoryUse, NotFound, OperationRefused, Plan, Result
from stockyard.hypervisor.facts import MachineFacts
from stockyard.model.info import Info

INFOS = sorted(
    (
        kind
        for kind in vars(stockyard).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and issubclass(kind, Info)
    ),
    key=lambda kind: kind.__name__,
)
# Facts of records that only stockyard itself uses.
INTERNAL = {"version", "spec", "recipe", "checksums", "leasable", "domain"}
FLEET = FleetInfo(
    name="web",
    tenant="default",
    template="docker",
    generations=("5f3c6a1d2b9e",),
    hosts=("web-1",),
    ready=1,
    total=1,
    leased=0,
    outdated=(),
    drift={},
    absent=frozenset({"missing_updates"}),
)


@pytest.mark.parametrize("kind", INFOS, ids=lambda kind: kind.__name__)
def test_each_fact_is_documented_and_public(kind: type[Any]) -> None:
    facts = [field.name for field in dataclasses.fields(kind) if field.name != "absent"]
    assert re.findall(r"^\s*:param (\w+):", kind.__doc__ or "", re.MULTILINE) == facts
    assert not INTERNAL & set(facts)


def test_absent_facts_are_not_returned() -> None:
    assert "missing_updates" not in FLEET.to_dict()
    assert "absent" not in FLEET.to_dict()
    assert FLEET.to_dict()["hosts"] == ["web-1"]
    assert dataclasses.replace(FLEET, absent=frozenset()).to_dict()["missing_updates"] is None


def test_facts_of_a_machine_are_absent_if_the_hypervisor_has_no_such_facts() -> None:
    assert {"memory", "console_log", "cluster"} <= MachineFacts(storage="/store").absent
    off = MachineFacts(storage="/store", console_log="/store/log", reports_memory=True)
    assert not {"memory", "console_log"} & off.absent
    running = dataclasses.replace(off, memory=MemoryUse(1.0, 2.0, 3))
    assert "cluster" in running.absent


def test_object_of_a_result_is_its_only_one() -> None:
    assert Result(Plan(), (FLEET,)).object is FLEET
    with pytest.raises(NotFound, match="contains no object"):
        repr(Result[FleetInfo](Plan()).object)
    with pytest.raises(OperationRefused, match="contains 2 objects"):
        repr(Result(Plan(), (FLEET, FLEET)).object)
