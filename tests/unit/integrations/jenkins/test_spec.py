# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from stockyard import InvalidInput
from stockyard.integrations.jenkins import AgentSpec
from tests.helpers.samples import HOSTILE

# Labels and paths may hold more than names may.
FINE = {
    "labels": {"A", "a.b"},
    "work_dir": set(),
    "credentials_id": {"-a", "a-", "A", "a.b", ".", ".."},
}


def spec(**options: Any) -> AgentSpec:
    return AgentSpec("ci", **{"credentials_id": "key", **options})


@pytest.mark.parametrize("text", HOSTILE)
def test_invalid_node_name_is_refused(text: str) -> None:
    for option, fine in FINE.items():
        if text and text not in fine:
            with pytest.raises(InvalidInput):
                spec(**{option: (text,) if option == "labels" else text})


@pytest.mark.parametrize(
    "options",
    [
        {"launcher": "carrier pigeon"},
        {"lost_hosts": "ignore"},
        {"executors": 0},
        {"executors": 2, "one_build": True},
        {"credentials_id": ""},
        {"labels": ("a b",)},
        {"labels": ("a||b",)},
        {"work_dir": "relative"},
        {"work_dir": "/var/../etc"},
        {"java": "java -version"},
        {"place": "a\nb"},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        spec(**options)


def test_an_inbound_agent_needs_no_credentials() -> None:
    assert AgentSpec("ci", launcher="inbound").credentials_id == ""


def test_single_build_host_without_node_is_replaced() -> None:
    assert spec(one_build=True).replaces_lost
    assert spec(lost_hosts="replace").replaces_lost
    assert not spec().replaces_lost
