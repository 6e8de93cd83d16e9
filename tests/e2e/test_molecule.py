# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule in real forks: a whole test of the sample role, many at once, the debugging loop, a
killed run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, TemplateInfo, Yard
from tests.helpers import prepare
from tests.helpers.molecule_checkout import CHECKOUT, Checkout

from .conftest import TEMPLATE, WORK

pytestmark = pytest.mark.real
VARIABLES = {
    "yard_owner": prepare.owner_apart(),
    "yard_storage": str(prepare.APART),
    "yard_pki_dir": str(WORK / "pki"),
    "molecule_template": {"name": TEMPLATE.name, "packages": list(TEMPLATE.image.packages)},
}
# Seconds for the whole of molecule's test, with a template at hand.
BOUND = 90.0


@pytest.fixture
def yard() -> Iterator[Yard]:
    """A yard without the shared guests, so that this file can run in the other process. It is
    opened for each test, because the shared guests' process restarts libvirtd between tests.
    """
    with prepare.yard_apart() as opened:
        yield opened
        opened.teardown()


@pytest.fixture
def template(yard: Yard) -> TemplateInfo:
    return yard.templates.apply(TEMPLATE).object


@pytest.fixture
def checkout(template: TemplateInfo, tmp_path: Path) -> Callable[..., Checkout]:
    """Makes checkouts of the sample role, each in a place of its own."""

    def make(place: str = "one", **more: Any) -> Checkout:
        (tmp_path / place).mkdir()
        return Checkout(tmp_path / place, {**VARIABLES, **more})

    return make


def forks(yard: Yard) -> list[HostInfo]:
    return [host for host in yard.hosts.list() if "molecule" in host.labels]


def test_the_sample_role_from_create_to_destroy(
    yard: Yard, checkout: Callable[..., Checkout]
) -> None:
    begin = time.monotonic()
    output = checkout().ok("test")
    print(f"the whole test took {time.monotonic() - begin:.0f} s")
    assert (
        "Idempotence completed successfully" in output
        or "idempotence: Executed: Successful" in output
    )
    assert "verify: Executed: Successful" in output
    assert forks(yard) == []


# Not in each run: it is the machine's time too.
@pytest.mark.full
def test_sample_scenario_takes_less_than_ninety_seconds(
    yard: Yard, checkout: Callable[..., Checkout]
) -> None:
    begin = time.monotonic()
    output = checkout().ok("test")
    took = time.monotonic() - begin
    assert took < BOUND, f"{took:.0f} s\n{output}"


@pytest.mark.full
def test_three_at_once(yard: Yard, checkout: Callable[..., Checkout]) -> None:
    runs = [checkout(place).start("test") for place in ("one", "two", "three")]
    for run in runs:
        output, _stderr = run.communicate(timeout=600)
        assert run.returncode == 0, output
    assert forks(yard) == []


@pytest.mark.full
def test_the_debugging_loop(yard: Yard, checkout: Callable[..., Checkout]) -> None:
    """Create, converge, fail, log in, fix, converge: the host stays the same until the end."""
    own_checkout = checkout()
    tasks = own_checkout.role / "tasks" / "main.yml"
    good = tasks.read_text()
    tasks.write_text(good.replace("state: started", "state: begun"))
    own_checkout.ok("create")
    (host,) = forks(yard)
    code, output = own_checkout.molecule("converge")
    assert code != 0
    assert "begun" in output
    assert login(own_checkout, host).endswith(host.name)
    tasks.write_text(good)
    own_checkout.ok("converge")
    own_checkout.ok("verify")
    assert [fork.uuid for fork in forks(yard)] == [host.uuid]
    own_checkout.ok("destroy")
    assert forks(yard) == []


def login(own_checkout: Checkout, host: HostInfo) -> str:
    """Return the name of the host, read by `molecule login` on a terminal."""
    molecule = own_checkout.role / "molecule" / "default" / "molecule.yml"
    known_hosts = "~/.config/stockyard/molecule/default/known_hosts"
    molecule.write_text(molecule.read_text().replace(known_hosts, host.ssh.known_hosts))
    result = subprocess.run(
        ["script", "--quiet", "--return", "--command", "molecule login --host debian", "/dev/null"],
        cwd=own_checkout.role,
        env=own_checkout.environment,
        input="cat /etc/hostname >/tmp/name; exit\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    from .conftest import ssh

    return ssh(host, "cat /tmp/name").stdout.strip()


@pytest.mark.full
def test_a_killed_run_leaves_nothing_after_reap(
    yard: Yard, checkout: Callable[..., Checkout]
) -> None:
    own_checkout = checkout(molecule_ttl="1m")
    run = own_checkout.start("test")
    end = time.monotonic() + 600
    while not any(host.ready for host in forks(yard)):
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.5)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    (host,) = forks(yard)
    time.sleep(max(0.0, host.expires - time.time()) + 1)
    yard.reap()
    assert forks(yard) == []


@pytest.mark.full
@pytest.mark.parametrize(
    "role", ["docker_engine", "user_namespaces", "hardening", "jenkins_agent", "nested"]
)
def test_the_scenario_of_each_role(tmp_path: Path, role: str) -> None:
    """The shipped scenario: create, converge, converge without changes, verify, delete. Its
    templates stay, so they have an owner whose objects no other test counts.
    """
    variables = {key: VARIABLES[key] for key in ("yard_storage", "yard_pki_dir")}
    variables["yard_owner"] = prepare.owner_apart("roles")
    with prepare.yard_apart("roles") as yard:
        output = Checkout(tmp_path, variables, role, CHECKOUT / "roles" / role).ok("test")
        for stage in ("create", "converge", "idempotence", "verify", "destroy"):
            assert f"{stage}: Executed: Successful" in output, output
        assert forks(yard) == []
