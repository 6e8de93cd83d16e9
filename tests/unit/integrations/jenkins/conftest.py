# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller, and a fleet of three hosts for its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stockyard import FleetSpec, Yard
from stockyard.integrations.jenkins import Agents, AgentSpec, Controller
from tests.jenkins.controller import TOKEN, USER, Jenkins, serving

FLEET = FleetSpec("ci", "base", count=3)
Make = Callable[..., Agents]


@pytest.fixture
def jenkins() -> Iterator[Jenkins]:
    """A controller with the SSH launcher's plugin."""
    with serving() as server:
        yield server


@pytest.fixture
def controller(jenkins: Jenkins) -> Controller:
    return Controller(jenkins.url, USER, TOKEN)


@pytest.fixture
def agents(yard: Yard, controller: Controller) -> Make:
    """The fleet's nodes, declared as a test likes."""
    yard.fleets.apply(FLEET)

    def make(**options: Any) -> Agents:
        declared = {"credentials_id": "key", "labels": ("docker",), "place": "here", **options}
        return Agents(yard.context, controller, AgentSpec("ci", **declared))

    return make
