# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cold boots: the other fork modes, and an identity that outlives the machine."""

from __future__ import annotations

import pytest

from stockyard.clock import Deadline
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import MODES
from stockyard.resources.context import Context
from tests.contract.bench import Bench
from tests.contract.conftest import Drafts, state_of
from tests.contract.test_machines import ask, identified

# A boot under emulation takes a minute.
pytestmark = pytest.mark.parametrize(
    "bench",
    ["memory", "vsphere", pytest.param("libvirt", marks=[pytest.mark.real, pytest.mark.full])],
    indirect=True,
)


@pytest.mark.parametrize("mode", MODES)
def test_every_declared_mode_makes_a_host(
    provider: Provider, drafts: Drafts, deadline: Deadline, mode: str
) -> None:
    if mode not in provider.capabilities.modes:
        pytest.skip(f"this hypervisor declares no {mode} forks")
    record = drafts.forked(deadline, mode)
    assert state_of(provider, record) == "running"
    assert ask(provider, record, deadline, op="hello")["uuid"] == ""


def test_a_host_is_itself_after_a_stop(
    context: Context, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record, _answer = identified(context, drafts, deadline)
    provider.stop(record, deadline)
    provider.stop(record, deadline)
    assert state_of(provider, record) == "off"
    provider.check_start(record)
    assert state_of(provider, record) == "off"
    assert provider.start(record, deadline) == ""
    assert state_of(provider, record) == "running"
    assert ask(provider, record, deadline, op="hello")["uuid"] == record.uuid


def test_a_host_is_itself_after_a_kill(
    bench: Bench, context: Context, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    record, _answer = identified(context, drafts, deadline)
    bench.kill(record)
    provider.start(record, deadline)
    assert ask(provider, record, deadline, op="hello")["uuid"] == record.uuid
