# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts whose container ports are forwarded, on a hypervisor that is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HostSpec,
    InvalidInput,
    PublishSpec,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.host import HostRecord
from stockyard.model.network import USER_NETWORK
from stockyard.resources.hosts import container_ports, egress
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import host_record

PORTS = HostSpec(container_ports=True)
ONE = SingleSpec("one", "base", host=PORTS)


@pytest.fixture
def followed(hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands with which processes were started."""
    lines: list[list[str]] = []

    def follow(record: HostRecord, line: Sequence[str], deadline: Deadline) -> bool:
        lines.append([record.name, *line])
        return True

    monkeypatch.setattr(hypervisor.inner, "follow_ports", follow)
    return lines


@pytest.mark.parametrize(
    "options",
    [{"network": "default"}, {"publish": PublishSpec("192.0.2.10")}],
)
def test_option_excludes_other_ways_in(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="container_ports"):
        HostSpec(container_ports=True, **options)  # type: ignore[arg-type]


def test_process_is_started_with_the_host_and_by_each_later_run(
    yard: Yard, followed: list[list[str]], tmp_path: Path
) -> None:
    yard.hosts.apply(ONE)
    line = followed[0]
    assert line[:2] == ["one", "ssh"]
    assert line[-1] == container_ports.RELAY
    known_hosts = next(tmp_path.rglob("*-ports"))
    assert f"UserKnownHostsFile={known_hosts}" in line
    for change in (partial(yard.hosts.apply, ONE), partial(yard.hosts.restart, "one")):
        followed.clear()
        change()
        assert line in followed
    yard.hosts.suspend("one")
    followed.clear()
    yard.hosts.resume("one")
    assert line in followed
    yard.hosts.delete("one")
    assert not known_hosts.exists()


def test_host_without_the_option_has_no_process(yard: Yard, followed: list[list[str]]) -> None:
    yard.fleets.apply(FleetSpec("web", "base", count=2))
    assert followed == []


@pytest.mark.parametrize(
    "security",
    [
        SecuritySpec("shared"),
        SecuritySpec("hostile"),
        SecuritySpec(user_namespaces="rootless"),
        SecuritySpec(icc=False),
    ],
)
def test_security_without_proxies_is_refused_before_any_change(
    yard: Yard, security: SecuritySpec
) -> None:
    yard.templates.apply(TemplateSpec("tight", security=security))
    spec = SingleSpec("one", "tight", host=PORTS)
    for check in (True, False):
        with pytest.raises(Unsupported, match="security of the template"):
            yard.hosts.apply(spec, check=check)
    assert yard.hosts.list() == ()


def test_hypervisor_without_the_capability_is_refused(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.inner.capabilities = replace(hypervisor.inner.capabilities, container_ports=False)
    with pytest.raises(Unsupported, match="on this hypervisor") as raised:
        yard.hosts.apply(ONE)
    assert raised.value.name == "host one"
    assert yard.hosts.list() == ()


def test_operator_without_a_login_may_start_the_relay_only() -> None:
    spec = HostSpec(container_ports=True, authorized_keys=("ssh-ed25519 AAAA them",))
    keys = egress.authorized_keys(host_record(spec=spec), USER_NETWORK, "ssh-ed25519 BBBB me")
    assert keys[1] == f'restrict,command="{container_ports.RELAY}" ssh-ed25519 BBBB me'
    both = replace(spec, egress="proxy", egress_proxy="proxy.example.org:3128")
    keys = egress.authorized_keys(host_record(spec=both), USER_NETWORK, "ssh-ed25519 BBBB me")
    assert 'permitlisten="10.0.2.15:3128"' in keys[1]
    assert f'command="{container_ports.RELAY}"' in keys[1]
