# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that other machines reach at ports of one address of the hypervisor."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from stockyard import (
    BranchSpec,
    Conflict,
    FleetSpec,
    HostInfo,
    HostSpec,
    InvalidInput,
    PublishSpec,
    SingleSpec,
    StockyardError,
    TemplateSpec,
    UpdateSpec,
    Yard,
)
from stockyard.integrations.jenkins.config import desired_config
from stockyard.integrations.jenkins.spec import AgentSpec
from stockyard.model.network import EVERYWHERE
from tests.helpers.clocks import FakeClock
from tests.helpers.values import present

ADDRESS = "192.0.2.10"
WEB = HostSpec(ports=(8080,), publish=PublishSpec(ADDRESS))
FLEET = FleetSpec("web", "base", count=3, host=WEB)


def with_range(ports: str) -> HostSpec:
    return replace(WEB, publish=PublishSpec(ADDRESS, ports))


def ports_of(hosts: Sequence[HostInfo]) -> list[list[int]]:
    endpoints = [
        (f"{host.ssh.host}:{host.ssh.port}", host.docker.endpoint, *host.published)
        for host in hosts
    ]
    return [[int(endpoint.rpartition(":")[2]) for endpoint in one_host] for one_host in endpoints]


@pytest.fixture
def neighbour(yard: Yard, clock: FakeClock, tmp_path: Path) -> Yard:
    """A yard of another owner on the same hypervisor."""
    opened = Yard(
        provider=yard.context.provider,
        owner="neighbour",
        clock=clock,
        pki_dir=str(tmp_path / "pki"),
    )
    opened.templates.apply(TemplateSpec("base"))
    return opened


def test_each_host_of_a_fleet_has_distinct_ports(yard: Yard) -> None:
    hosts = yard.fleets.apply(FLEET).objects
    assert sorted(ports_of(hosts)) == [
        [20000, 20001, 20002],
        [20003, 20004, 20005],
        [20006, 20007, 20008],
    ]
    assert {host.ssh.host for host in hosts} == {ADDRESS}
    assert not yard.fleets.apply(FLEET).changed


def test_all_facts_of_a_published_host_name_the_published_address(yard: Yard) -> None:
    (host,) = yard.fleets.apply(replace(FLEET, count=1)).objects
    assert (host.ssh.host, host.ssh.port) == (ADDRESS, 20000)
    assert " -p 20000 " in host.ssh.command
    assert host.ssh.command.endswith(f"stockyard@{ADDRESS}")
    assert host.docker.endpoint == f"tcp://{ADDRESS}:20001"
    assert f"DOCKER_HOST=tcp://{ADDRESS}:20001" in host.docker.export
    assert f"host=tcp://{ADDRESS}:20001," in host.docker.context
    assert host.published == (f"{ADDRESS}:20002",)
    (entry,) = yard.listing().hosts
    assert (entry["ssh"]["host"], entry["ssh"]["port"]) == (ADDRESS, 20000)
    assert entry["docker"]["endpoint"] == f"tcp://{ADDRESS}:20001"
    assert entry["published"] == [f"{ADDRESS}:20002"]
    lease = yard.leases.acquire("web", holder="job").info
    assert lease.docker.endpoint == f"tcp://{ADDRESS}:20001"
    (record,) = (member.record for member in yard.context.provider.observe("stockyard").hosts)
    node = desired_config(AgentSpec("web", credentials_id="agents"), record)
    assert (node["launcher"]["host"], node["launcher"]["port"]) == (ADDRESS, "20000")


def test_key_and_certificate_are_valid_at_both_addresses(yard: Yard, tmp_path: Path) -> None:
    (host,) = yard.fleets.apply(replace(FLEET, count=1)).objects
    for pattern in (f"[{ADDRESS}]:20000", f"[{host.address}]:2222"):
        for known_hosts in (host.ssh.known_hosts, yard.listing().hosts[0]["ssh"]["known_hosts"]):
            argv = ["ssh-keygen", "-F", pattern, "-f", known_hosts]
            lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            assert present(host.identity).ssh_host_key in lines
    argv = ["ssh", "-F", host.ssh.config, "-G", host.name]
    settings = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert f"hostname {ADDRESS}\nport 20000\n" in settings
    certificates = [
        x509.load_pem_x509_certificate(content)
        for path in tmp_path.rglob("*")
        if path.is_file() and (content := path.read_bytes()).startswith(b"-----BEGIN CERTIFICATE")
    ]
    serial = int(present(host.identity).certificate, 16)
    certificate = next(entry for entry in certificates if entry.serial_number == serial)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host.name, "localhost"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == [host.address, "127.0.0.1", ADDRESS]


def test_ports_stay_over_restart_and_suspension(yard: Yard) -> None:
    (host,) = yard.fleets.apply(replace(FLEET, count=1)).objects
    yard.hosts.restart(host.name)
    yard.hosts.suspend(host.name)
    yard.hosts.resume(host.name)
    assert ports_of([yard.hosts.get(host.name)]) == ports_of([host]) == [[20000, 20001, 20002]]


def test_ports_are_never_doubled_between_owners(yard: Yard, neighbour: Yard) -> None:
    hosts = [*yard.fleets.apply(FLEET).objects, *neighbour.fleets.apply(FLEET).objects]
    everywhere = HostSpec(ports=(20018,), bind=EVERYWHERE)
    neighbour.hosts.apply(SingleSpec("bound", "base", host=everywhere))
    hosts += yard.hosts.apply(SingleSpec("single", "base", host=WEB)).objects
    all_ports = [port for host_ports in ports_of(hosts) for port in host_ports]
    assert len(set(all_ports)) == len(all_ports) == 21
    assert 20018 not in all_ports


def test_ports_are_never_doubled_between_parallel_runs(yard: Yard, neighbour: Yard) -> None:
    spec = replace(FLEET, count=4, host=with_range("20000-20023"))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda opened: opened.fleets.apply(spec), (yard, neighbour)))
    all_ports = [port for result in results for ports in ports_of(result.objects) for port in ports]
    assert sorted(all_ports) == list(range(20000, 20024))


def test_range_that_other_hosts_use_is_refused_before_any_change(
    yard: Yard, neighbour: Yard
) -> None:
    narrow = with_range("20000-20008")
    neighbour.hosts.apply(SingleSpec("single", "base", host=narrow))
    for check in (True, False):
        with pytest.raises(Conflict, match="6 of them are free, and 9 are needed") as caught:
            yard.fleets.apply(replace(FLEET, host=narrow), check=check)
        assert "extend the range" in caught.value.remedy
    assert yard.hosts.list() == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ports": "20000-20007"}, "large enough for 2 hosts, and the fleet has 3"),
        ({"ports": "20000-20001"}, "has 2 ports, and a host needs 3"),
        ({"ports": "80-2000"}, "not a range of ports from 1024"),
        ({"ports": "2000-1999"}, "not a range"),
        ({"ports": "65000-65536"}, "not a range"),
        ({"ports": "20000"}, "not a range"),
        ({"ports": ""}, "not a range"),
        ({"address": EVERYWHERE}, "not an address that other machines"),
        ({"address": "127.64.3.4", "ports": "2222-2231"}, "own address of another host"),
        ({"address": "proxy"}, "not an IPv4 address"),
    ],
)
def test_invalid_publication_is_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        replace(FLEET, host=replace(WEB, publish=PublishSpec(**{"address": ADDRESS, **changes})))
    assert caught.value.remedy


@pytest.mark.parametrize("option", ["network", "bind", "egress"])
def test_option_that_excludes_publication_is_refused(option: str) -> None:
    changes: dict[str, Any] = {
        option: {"network": "default", "bind": "192.0.2.11", "egress": "open"}[option]
    }
    with pytest.raises(InvalidInput, match="publish: ") as caught:
        replace(WEB, **changes)
    assert caught.value.remedy


def test_change_of_publication_replaces_the_host(yard: Yard) -> None:
    unpublished = replace(WEB, publish=None)
    yard.hosts.apply(SingleSpec("single", "base", host=unpublished))
    for spec, facts in ((WEB, {"address": ADDRESS, "ports": "auto"}), (unpublished, None)):
        declared = SingleSpec("single", "base", host=spec)
        (action,) = yard.hosts.apply(declared, check=True).plan.actions
        assert (action.verb, action.reason) == ("replace", "publish changed")
        assert action.after.get("publish") == facts
        host = yard.hosts.apply(declared).object
        assert (host.ssh.host == ADDRESS) == (facts is not None)
        assert not yard.hosts.apply(declared).changed
    yard.fleets.apply(replace(FLEET, count=1))
    plan = yard.fleets.apply(replace(FLEET, count=1, host=unpublished), check=True).plan
    assert "publish changed" in str(plan.actions[0])


def test_fleet_that_fills_its_range_is_updated(yard: Yard) -> None:
    full = replace(FLEET, host=with_range("20000-20008"), update=UpdateSpec(max_surge=2))
    yard.fleets.apply(full)
    changed = replace(full, host=replace(full.host, engine_identity="unique"))
    hosts = yard.fleets.apply(changed).objects
    assert sorted(port for ports in ports_of(hosts) for port in ports) == list(range(20000, 20009))
    assert {host.engine_identity for host in hosts} == {"unique"}


def test_update_with_too_few_ports_for_a_step_is_refused(yard: Yard, neighbour: Yard) -> None:
    neighbour.hosts.apply(SingleSpec("single", "base", host=WEB))
    shared = replace(FLEET, host=with_range("20000-20012"), update=UpdateSpec(max_surge=1))
    yard.fleets.apply(shared)
    hosts = yard.hosts.list()
    changed = replace(shared, host=replace(shared.host, engine_identity="unique"))
    with pytest.raises(Conflict, match="1 of them are free, and 3 are needed"):
        yard.fleets.apply(changed)
    assert yard.hosts.list() == hosts


def test_child_of_a_published_host_has_its_own_ports(yard: Yard) -> None:
    parent = yard.hosts.apply(SingleSpec("single", "base", host=WEB)).object
    (child,) = yard.hosts.branch(BranchSpec("single", count=1)).objects
    assert ports_of([parent, child]) == [[20000, 20001, 20002], [20003, 20004, 20005]]


def test_ports_of_a_deleted_host_are_free_again(yard: Yard) -> None:
    first = yard.hosts.apply(SingleSpec("first", "base", host=WEB)).object
    yard.hosts.delete("first")
    second = yard.hosts.apply(SingleSpec("second", "base", host=WEB)).object
    assert ports_of([second]) == ports_of([first])


def test_record_with_other_ports_than_declared_is_refused(yard: Yard) -> None:
    yard.hosts.apply(SingleSpec("single", "base", host=WEB))
    (record,) = (member.record for member in yard.context.provider.observe("stockyard").hosts)
    for ports in ((20000,), (20000, 20000, 20001), (80, 20000, 20001), (20000, 20001, 70000)):
        with pytest.raises(StockyardError):
            replace(record, publish_ports=ports)
    with pytest.raises(StockyardError):
        replace(record, spec=replace(record.spec, publish=None))
