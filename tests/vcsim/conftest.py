# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated vCenters for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from stockyard.hypervisor.capabilities import Capabilities
from stockyard.providers.vsphere import provider
from tests.vcsim.simulator import Simulator

Start = Callable[..., Simulator]


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated guests have no agent that a freeze must wait for."""
    monkeypatch.setattr(provider, "Capabilities", partial(Capabilities, settle=0.0))


@pytest.fixture(scope="module")
def vcenter() -> Iterator[Simulator]:
    """One for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch, Simulator() as running:
        _enter(patch, running)
        yield running


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts one with options; the last that was started is whom the environment logs in to."""
    with ExitStack() as stack:

        def started(**options: Any) -> Simulator:
            running = stack.enter_context(Simulator(**options))
            _enter(monkeypatch, running)
            return running

        yield started


@pytest.fixture
def own_vcenter(start: Start) -> Simulator:
    """One for this test."""
    return start()


def _enter(patch: pytest.MonkeyPatch, running: Simulator) -> None:
    for name, value in running.environment.items():
        patch.setenv(name, value)
