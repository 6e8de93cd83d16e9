# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is deleted for another one only if that one can be made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    Conflict,
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    InvalidInput,
    MissingDependency,
    SingleSpec,
    Unsupported,
    UpdateSpec,
    Yard,
)
from stockyard.model.size import Size
from stockyard.resources.fleets.converge_fleet import FleetConvergence
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

CHANGED = HostSpec(ports=(8080,))


def replace_single(yard: Yard, check: bool) -> None:
    yard.hosts.apply(SingleSpec("web", "base", host=CHANGED), check=check)


def replace_member(yard: Yard, check: bool) -> None:
    yard.hosts.replace("ci-1", check=check)


def recreate(yard: Yard, check: bool) -> None:
    yard.fleets.apply(
        FleetSpec("ci", "base", count=2, host=CHANGED, update=UpdateSpec("recreate")), check=check
    )


def roll(yard: Yard, check: bool) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=2, host=CHANGED), check=check)


def rename(yard: Yard, check: bool) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", names=("ci-1", "other"), host=CHANGED), check=check)


def site(yard: Yard, check: bool) -> None:
    fleet = FleetSpec("ci", "base", count=2, host=CHANGED, update=UpdateSpec("recreate"))
    yard.apply(Declaration(fleets=(FleetTerm(fleet),)), check=check)


def release(yard: Yard, check: bool) -> None:
    (lease,) = yard.leases.list()
    yard.leases.release(lease.id, replace=True, check=check)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "act", [replace_single, replace_member, recreate, roll, rename, site, release]
)
def test_irreplaceable_host_is_not_deleted(
    yard: Yard, hypervisor: FaultyProvider, act: Callable[[Yard, bool], None], check: bool
) -> None:
    """Whatever replaces it, and in check mode too."""
    yard.hosts.apply(SingleSpec("web", "base"))
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    if act is release:
        yard.leases.acquire("ci", holder="me")
    before = yard.hosts.list()
    hypervisor.fail("check_host", Unsupported("it cannot be."))
    with pytest.raises(Unsupported, match=r"host .*: it cannot be"):
        act(yard, check)
    assert yard.hosts.list() == before


@pytest.mark.parametrize("check", [True, False])
def test_hosts_larger_than_the_hypervisor_are_refused(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    monkeypatch.setattr(hypervisor.inner, "capacity", lambda: Size(8, 1 << 16))
    spec = FleetSpec("ci", "later", count=900, host=HostSpec(memory_mib=1 << 20))
    with pytest.raises(Unsupported, match=r"host ci-1: .* 1048576 MiB.*has 65536 MiB"):
        yard.fleets.apply(spec, check=True)
    # Also if the memory is that of the template.
    monkeypatch.setattr(hypervisor.inner, "capacity", lambda: Size(8, 1023))
    with pytest.raises(Unsupported, match=r"host ci-1: .* 1024 MiB.*has 1023 MiB"):
        yard.fleets.apply(FleetSpec("ci", "base", count=2), check=check)
    assert yard.hosts.list() == ()


def test_hosts_larger_than_the_hypervisor_together_are_reported(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(hypervisor.inner, "capacity", lambda: Size(8, 2048))
    context = replace(yard.context, progress=lines.append)
    FleetConvergence(context, FleetSpec("ci", "base", count=2)).plan()
    assert lines == []
    FleetConvergence(context, FleetSpec("ci", "base", count=3)).plan()
    assert lines == [
        "host ci-1 and 2 more can use 3072 MiB of memory together, and the hypervisor has 2048 MiB"
    ]


@pytest.mark.parametrize("check", [True, False])
def test_name_of_a_foreign_machine_is_refused(yard: Yard, tmp_path: Path, check: bool) -> None:
    state = tmp_path / "hypervisor"
    foreign = {"record": "", "state": "running", "link": True, "backing": ""}
    state.write_text(state.read_text() + json.dumps(["stockyard.default.web", foreign]) + "\n")
    with pytest.raises(Conflict, match=r"host web: another machine has this name.*no record"):
        yard.hosts.apply(SingleSpec("web", "base"), check=check)


@pytest.mark.parametrize("check", [True, False])
def test_expired_authority_is_refused_before_a_host_is_deleted(
    yard: Yard, clock: FakeClock, check: bool
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    before = yard.hosts.list()
    clock.time += 40 * 365 * 86400
    with pytest.raises(InvalidInput, match="CA expired"):
        recreate(yard, check)
    assert [h.uuid for h in yard.hosts.list()] == [h.uuid for h in before]


def test_host_behind_a_proxy_without_ssh_is_refused(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    capabilities = replace(yard.context.provider.capabilities, endpoints=True)
    monkeypatch.setattr(yard.context.provider, "capabilities", capabilities, raising=False)
    proxy = HostSpec(egress="proxy", egress_proxy="proxy.example.org:3128")
    with pytest.raises(MissingDependency, match="host web: ssh is not installed"):
        yard.hosts.apply(SingleSpec("web", "base", host=proxy), check=True)
