# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that dies in the middle, and a line that is cut: a rerun makes it right, and nothing
is left over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import BranchSpec, FleetSpec, ImageSpec, SingleSpec, TemplateSpec, Yard
from stockyard.errors import StockyardError
from stockyard.planning.declaration import Declaration, TemplateTerm
from tests.helpers.values import present
from tests.vcsim.cut_proxy import Cut
from tests.vcsim.simulator import SOURCE, Simulator

FLEET = FleetSpec("web", template="base", count=50)
BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))
LEFT = {SOURCE}
PATIENCE = 60
# A controller of its own.
CONTROLLER = """
import sys
from stockyard import FleetSpec, Yard
with Yard(sys.argv[1], pki_dir=sys.argv[2]) as yard:
    yard.fleets.apply(FleetSpec("web", template="base", count=50))
"""
CHILDREN = BranchSpec("trunk", fleet="twig", count=8)
BRANCHING = """
import sys
from stockyard import BranchSpec, Yard
with Yard(sys.argv[1], pki_dir=sys.argv[2]) as yard:
    yard.hosts.branch(BranchSpec("trunk", fleet="twig", count=8))
"""
SUSPENDING = """
import sys
from stockyard import Yard
with Yard(sys.argv[1], pki_dir=sys.argv[2]) as yard:
    yard.suspend()
    yard.resume()
"""

LEVELS = Declaration(
    (
        TemplateTerm(BASE),
        TemplateTerm(TemplateSpec("jdk", parent="base")),
        TemplateTerm(TemplateSpec("app", parent="jdk")),
    )
)
DERIVING = """
import sys
from stockyard import Yard
from tests.vcsim.test_crash import LEVELS
with Yard(sys.argv[1], pki_dir=sys.argv[2]) as yard:
    yard.apply(LEVELS)
"""


@pytest.fixture
def yard(own_vcenter: Simulator, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a frozen template."""
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path / "pki")) as opened:
        opened.templates.apply(BASE)
        own_vcenter.reset()
        yield opened


def converged(vcenter: Simulator, yard: Yard) -> None:
    """A rerun makes the fleet whole, another finds nothing to do, and a teardown leaves nothing."""
    hosts = yard.fleets.apply(FLEET, timeout=120).objects
    assert len(hosts) == 50
    assert {(h.phase, h.state) for h in hosts} == {("ready", "running")}
    assert len({present(h.identity).ssh_host_key for h in hosts}) == 50
    assert not yard.fleets.apply(FLEET).changed
    machines = [name for name in vcenter.machines() if ".web-" in name]
    assert len(machines) == 50
    yard.teardown(templates=True)
    assert set(vcenter.machines()) == LEFT
    assert yard.context.provider.observe("stockyard").unreadable == ()


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("InstantClone_Task", 25),
        pytest.param("InstantClone_Task", 1, marks=pytest.mark.full),
        pytest.param("ReconfigVM_Task", 200, marks=pytest.mark.full),
    ],
)
def test_a_controller_is_killed(
    own_vcenter: Simulator, yard: Yard, tmp_path: Path, method: str, count: int
) -> None:
    argv = [sys.executable, "-c", CONTROLLER, yard.context.provider.uri, str(tmp_path / "pki")]
    with subprocess.Popen(argv) as controller:
        wait_for(own_vcenter, method, count)
        os.kill(controller.pid, signal.SIGKILL)
    assert controller.returncode == -signal.SIGKILL
    converged(own_vcenter, yard)


@pytest.mark.parametrize(
    ("method", "count", "reap_first"),
    [
        ("InstantClone_Task", 1, False),
        ("InstantClone_Task", 4, True),
        *(
            pytest.param("ReconfigVM_Task", count, count % 4 == 0, marks=pytest.mark.full)
            for count in (2, 4, 6, 8, 11, 14, 20, 30, 40)
        ),
    ],
)
def test_controller_is_killed_during_a_branch(
    own_vcenter: Simulator, yard: Yard, tmp_path: Path, method: str, count: int, reap_first: bool
) -> None:
    trunk = yard.hosts.apply(SingleSpec("trunk", "base")).object
    own_vcenter.reset()
    argv = [sys.executable, "-c", BRANCHING, yard.context.provider.uri, str(tmp_path / "pki")]
    with subprocess.Popen(argv) as controller:
        wait_for(own_vcenter, method, count)
        os.kill(controller.pid, signal.SIGKILL)
    assert controller.returncode == -signal.SIGKILL
    assert yard.hosts.get("trunk").state == "running"
    if reap_first:
        yard.reap(grace=0.0)
        assert {host.ready for host in yard.hosts.list()} == {True}
    children = yard.hosts.branch(CHILDREN, timeout=120).objects
    yard.reap()
    assert not yard.hosts.branch(CHILDREN).changed
    assert yard.hosts.get("trunk").identity == trunk.identity
    hosts = yard.hosts.list()
    assert {host.name for host in hosts} == {"trunk", *CHILDREN.children}
    assert {(host.phase, host.state) for host in hosts} == {("ready", "running")}
    assert len({present(host.identity).ssh_host_key for host in hosts}) == 9
    assert set(own_vcenter.machines()) - LEFT == {
        "stockyard-register",
        yard.context.provider.observe("stockyard").templates[0].record.domain,
        *(f"stockyard.default.{host.name}" for host in hosts),
    }
    # Branches of the killed run stay as long as their children.
    assert 1 <= len(yard.context.provider.branches.all()) <= 2
    for name in ("trunk", *(child.name for child in children)):
        yard.hosts.delete(name)
    assert yard.context.provider.branches.all() == []
    yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == LEFT


@pytest.mark.parametrize(
    ("method", "count", "reap_first"),
    [
        ("InstantClone_Task", 1, False),
        ("InstantClone_Task", 2, True),
        *(
            pytest.param("ReconfigVM_Task", count, count % 4 == 0, marks=pytest.mark.full)
            for count in (1, 2, 3, 4, 5, 6, 8, 10, 12, 14)
        ),
    ],
)
def test_a_controller_is_killed_while_it_derives_templates(
    own_vcenter: Simulator, yard: Yard, tmp_path: Path, method: str, count: int, reap_first: bool
) -> None:
    (base,) = yard.context.provider.observe("stockyard").templates
    argv = [sys.executable, "-c", DERIVING, yard.context.provider.uri, str(tmp_path / "pki")]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2]) as controller:
        wait_for(own_vcenter, method, count)
        os.kill(controller.pid, signal.SIGKILL)
    assert controller.returncode == -signal.SIGKILL
    if reap_first:
        yard.reap(grace=0.0)
        assert {template.usable for template in yard.templates.list()} == {True}
    yard.apply(LEVELS)
    yard.reap()
    assert not yard.apply(LEVELS).changed
    templates = yard.context.provider.observe("stockyard").templates
    assert {template.record.name for template in templates} == {"base", "jdk", "app"}
    assert {template.usable for template in templates} == {True}
    assert base.record in [template.record for template in templates]
    assert set(own_vcenter.machines()) - LEFT == {
        "stockyard-register",
        *(template.record.domain for template in templates),
    }
    (host,) = yard.hosts.apply(SingleSpec("one", "app")).objects
    assert host.ready
    yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == LEFT


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("SuspendVM_Task", 2),
        ("PowerOnVM_Task", 2),
        *(
            pytest.param("ReconfigVM_Task", count, marks=pytest.mark.full)
            for count in (2, 4, 8, 10, 12, 14, 16, 18, 20)
        ),
    ],
)
def test_controller_is_killed_during_suspend_or_resume(
    own_vcenter: Simulator, yard: Yard, tmp_path: Path, method: str, count: int
) -> None:
    fleet = replace(FLEET, count=3)
    hosts = yard.fleets.apply(fleet).objects
    own_vcenter.reset()
    argv = [sys.executable, "-c", SUSPENDING, yard.context.provider.uri, str(tmp_path / "pki")]
    with subprocess.Popen(argv) as controller:
        wait_for(own_vcenter, method, count)
        os.kill(controller.pid, signal.SIGKILL)
    assert controller.returncode == -signal.SIGKILL
    yard.fleets.apply(fleet, timeout=120)
    yard.reap()
    assert not yard.fleets.apply(fleet).changed
    after = yard.hosts.list()
    assert {(host.phase, host.state, host.ready) for host in after} == {("ready", "running", True)}
    assert {host.uuid: host.identity for host in after} == {
        host.uuid: host.identity for host in hosts
    }
    for host in after:
        machine = own_vcenter.find(f"stockyard/stockyard.default.{host.name}")
        cards = [
            device for device in machine.config.hardware.device if hasattr(device, "macAddress")
        ]
        assert [card.connectable.connected for card in cards] == [True]
    yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == LEFT


@pytest.mark.parametrize(
    ("method", "count"),
    [("InstantClone_Task", 25), pytest.param("ReconfigVM_Task", 20, marks=pytest.mark.full)],
)
def test_a_line_is_cut(
    own_vcenter: Simulator, yard: Yard, tmp_path: Path, method: str, count: int
) -> None:
    """Either what was cut is done again, or it is said that it was cut; never half a host that is
    called ready.
    """
    with (
        Cut(own_vcenter) as cut,
        Yard(cut.uri + "?endpoints=false", pki_dir=str(tmp_path / "pki")) as far,
    ):
        cut.after(method, count)
        with suppress(StockyardError):
            far.fleets.apply(FLEET, timeout=90)
        assert cut.cuts == 1
    converged(own_vcenter, yard)


def test_a_line_is_cut_in_a_teardown(own_vcenter: Simulator, yard: Yard, tmp_path: Path) -> None:
    yard.fleets.apply(replace(FLEET, count=25))
    own_vcenter.reset()
    with (
        Cut(own_vcenter) as cut,
        Yard(cut.uri + "?endpoints=false", pki_dir=str(tmp_path / "pki")) as far,
    ):
        cut.after("Destroy_Task", 12)
        with suppress(StockyardError):
            far.teardown(templates=True, timeout=90)
        assert cut.cuts == 1
    yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == LEFT


def wait_for(vcenter: Simulator, method: str, count: int) -> None:
    """Until a method was called so often."""
    end = time.monotonic() + PATIENCE
    while vcenter.calls()[method] < count:
        assert time.monotonic() < end
        time.sleep(0.005)
