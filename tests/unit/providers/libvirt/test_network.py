# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that each network supports, with a stand-in for libvirt's connection."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from stockyard.errors import Conflict, MissingDependency, Unsupported
from stockyard.model.host import HostSpec
from stockyard.model.network import USER_NETWORK, GuestNetwork, PublishSpec
from stockyard.model.publication import bindings_of
from stockyard.providers.libvirt import uplink_tools
from stockyard.providers.libvirt.network import (
    Networks,
    attach,
    change_forwards,
    check_free,
    check_own_ports,
    free_ports,
    update_forwards,
)
from tests.helpers.samples import host_record

UUID = "11111111-2222-4333-8444-555555555555"
BOUND = {"ports": (8080,), "bind": "127.9.9.9"}


class Libvirt:
    """As much of a connection as is asked: one network."""

    def __init__(self, forward: str, active: bool = True, address: str = "192.168.9.1") -> None:
        element = f"<forward mode='{forward}'/>" if forward else ""
        self.text = f"<network>{element}<ip address='{address}' prefix='29'/></network>"
        self.active = active

    def networkLookupByName(self, name: str) -> Libvirt:  # noqa: N802
        return self

    def isActive(self) -> bool:  # noqa: N802
        return self.active

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return self.text

    def DHCPLeases(self) -> list[dict[str, Any]]:  # noqa: N802
        return [{"ipaddr": "192.168.9.3"}]


def networks(forward: str = "", *, system: bool = True, active: bool = True) -> Networks:
    return Networks(Libvirt(forward, active), system)


def test_more_hosts_than_the_network_has_addresses_are_refused() -> None:
    """Six in all: the gateway's, a leased one, and those of hosts that stay."""
    lab = networks("nat")
    lab.check_room("lab", 4, [])
    with pytest.raises(Conflict, match="4 hosts need an address, and 3 addresses are free"):
        lab.check_room("lab", 4, ["192.168.9.4"])


@pytest.mark.parametrize(
    ("forward", "spec"),
    [
        ("", HostSpec(network="lab")),
        ("", HostSpec(network="lab", egress="proxy", egress_proxy="proxy:3128")),
        ("nat", HostSpec(network="lab", egress="open")),
        ("", HostSpec()),
        ("", HostSpec(egress="proxy", egress_proxy="127.0.0.1:3128")),
    ],
)
def test_network_options_within_the_capabilities_are_accepted(forward: str, spec: HostSpec) -> None:
    networks(forward).check(spec)


@pytest.mark.parametrize(
    ("forward", "spec", "why"),
    [
        ("nat", HostSpec(network="lab"), "forwards"),
        ("route", HostSpec(network="lab", egress="proxy", egress_proxy="proxy:3128"), "forwards"),
        ("", HostSpec(network="lab", egress="open"), "isolated"),
        ("nat", HostSpec(egress="open"), "declare a network"),
        ("nat", HostSpec(egress="allow", egress_allow=("a.org",)), "use qemu:///session"),
        (
            "nat",
            HostSpec(network="lab", egress="allow", egress_allow=("a.org",)),
            "egress_allow is not possible in network lab",
        ),
        (
            "nat",
            HostSpec(network="lab", egress="open", egress_allow=("10.0.0.1",)),
            "egress_allow is not possible in network lab",
        ),
    ],
)
def test_network_options_outside_the_capabilities_are_refused(
    forward: str, spec: HostSpec, why: str
) -> None:
    with pytest.raises(Unsupported, match=why) as caught:
        networks(forward).check(spec)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("address", "meets"),
    [
        ("172.17.3.1", True),
        ("172.18.200.1", True),
        ("172.19.0.1", False),
        ("10.0.2.1", False),
    ],
)
def test_network_with_addresses_of_a_docker_pool_is_refused(address: str, meets: bool) -> None:
    networks = Networks(Libvirt("", active=True, address=address), system=True)
    if not meets:
        networks.check(HostSpec(network="lab"))
        return
    with pytest.raises(Unsupported, match="Docker's pool 172") as caught:
        networks.check(HostSpec(network="lab"))
    assert caught.value.remedy


def test_session_that_cannot_provide_an_uplink_refuses_open_egress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_allowed: object) -> None:
        raise MissingDependency("nft is not installed.")

    monkeypatch.setattr(uplink_tools, "check", refuse)
    with pytest.raises(MissingDependency, match="nft"):
        networks(system=False).check(HostSpec(egress="open"))
    networks(system=False).check(HostSpec())
    monkeypatch.setattr(uplink_tools, "check", lambda _allowed: None)
    networks(system=False).check(HostSpec(egress="open"))


def test_guest_with_an_uplink_has_the_name_server_behind_it() -> None:
    record = host_record(spec=HostSpec(egress="open"))
    guest_network = networks(system=False).guest(record)
    assert (guest_network.address, guest_network.gateway) == ("10.0.2.15", "")
    assert guest_network.uplink is not None
    assert guest_network.nameserver == guest_network.uplink.gateway
    assert networks(system=False).guest(host_record()) == USER_NETWORK


def test_a_session_has_no_networks() -> None:
    with pytest.raises(Unsupported, match="qemu:///system"):
        networks("nat", system=False).check(HostSpec(network="lab", egress="open"))


def test_a_network_that_is_not_active_is_refused() -> None:
    with pytest.raises(Unsupported, match="net-start lab"):
        networks("nat", active=False).check(HostSpec(network="lab", egress="open"))


def test_allocated_address_is_free() -> None:
    spec = HostSpec(network="lab")
    assert networks().address(spec, UUID, ["192.168.9.2", "192.168.9.4"]) in (
        "192.168.9.5",
        "192.168.9.6",
    )
    assert networks().address(HostSpec(), UUID, []) == ""


def test_guest_gets_the_settings_of_its_network() -> None:
    record = host_record(address="192.168.9.5", spec=HostSpec(network="lab", egress="open"))
    guest_network = GuestNetwork(
        "192.168.9.5", "255.255.255.248", "192.168.9.1", nameserver="192.168.9.1"
    )
    assert networks("nat").guest(record) == guest_network
    isolated = networks().guest(record)
    assert (isolated.gateway, isolated.nameserver) == ("", isolated.address), (
        "lookups are refused by the guest itself"
    )
    assert networks().guest(host_record()) == USER_NETWORK


@pytest.mark.parametrize(
    ("own_options", "foreign_options"),
    [
        (BOUND, BOUND),
        ({"ports": (8080,), "bind": "0.0.0.0"}, {"ports": (8080,)}),  # noqa: S104
        (BOUND, {**BOUND, "bind": "0.0.0.0"}),  # noqa: S104
    ],
)
def test_a_port_that_another_owners_host_publishes_is_refused(
    own_options: Any, foreign_options: Any
) -> None:
    foreign_host = host_record(name="other", owner="neighbour", spec=HostSpec(**foreign_options))
    with pytest.raises(Conflict, match=r"8080.*host other of owner neighbour"):
        check_free(host_record(spec=HostSpec(**own_options)), [foreign_host])


def test_port_of_a_foreign_process_is_detected() -> None:
    with socket.create_server(("127.9.9.9", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port}.*in use"):
            check_free(host_record(spec=HostSpec(ports=(port,), bind="127.9.9.9")), [])


def test_an_address_that_is_not_the_hypervisors_is_seen() -> None:
    with pytest.raises(Conflict, match="assign"):
        check_free(host_record(spec=HostSpec(ports=(8080,), bind="198.51.100.1")), [])


def test_ports_of_programs_and_hosts_are_not_chosen() -> None:
    with socket.create_server(("127.9.9.9", 0)) as server:
        first = server.getsockname()[1]
        publish = PublishSpec("127.9.9.9", f"{first}-{min(first + 5, 65535)}")
        spec = HostSpec(publish=PublishSpec("127.9.9.9", f"{first + 1}-{first + 2}"))
        other_host = host_record(spec=spec, publish_ports=(first + 1, first + 2))
        used_bindings = bindings_of([other_host])
        assert free_ports(publish, 2, used_bindings) == (first + 3, first + 4)
        program_and_host = {first, first + 1, first + 2}
        assert not program_and_host & set(free_ports(publish, 9, bindings_of([other_host])))


@pytest.mark.parametrize(
    ("spec", "publish_ports", "gateway"),
    [
        (HostSpec(publish=PublishSpec("192.0.2.10")), (20000, 20001), "10.0.2.2"),
        (HostSpec(ports=(8080,), bind="192.0.2.10"), (), "10.0.2.2"),
        (HostSpec(ports=(8080,), bind="0.0.0.0"), (), "10.0.2.2"),  # noqa: S104
        (HostSpec(publish=PublishSpec("127.0.0.1")), (20000, 20001), ""),
        (HostSpec(ports=(8080,), bind="127.0.0.1"), (), ""),
        (HostSpec(ports=(8080,)), (), ""),
    ],
)
def test_guest_has_a_route_for_answers_to_other_machines(
    spec: HostSpec, publish_ports: tuple[int, ...], gateway: str
) -> None:
    host = host_record(spec=spec, publish_ports=publish_ports)
    assert networks().guest(host) == replace(USER_NETWORK, gateway=gateway)


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Conflict, match="assign") as caught:
        free_ports(PublishSpec("198.51.100.1"), 2, [])
    assert "address of the hypervisor" in caught.value.remedy


def test_start_is_refused_while_a_program_listens_on_a_published_port() -> None:
    with socket.create_server(("127.9.9.9", 0)) as server:
        port = server.getsockname()[1]
        spec = HostSpec(publish=PublishSpec("127.9.9.9"))
        host = host_record(spec=spec, publish_ports=(port, port - 1))
        with pytest.raises(Conflict, match=f"port {port} of 127.9.9.9 is in use"):
            check_own_ports(host)


class Forwarding:
    """The monitor of a machine: it refuses some ports."""

    name = "host web-1"

    def __init__(self, *refused: int) -> None:
        self.lines: list[str] = []
        self.refused = refused

    def command(self, execute: str, **arguments: Any) -> str:
        assert execute == "human-monitor-command"
        self.lines.append(arguments["command-line"])
        is_refused = any(f":{port}-:" in self.lines[-1] for port in self.refused)
        rule = self.lines[-1].rpartition(" ")[2]
        return f"Could not set up host forwarding rule '{rule}'\r\n" if is_refused else ""


def test_published_ports_of_a_running_machine_change() -> None:
    monitor: Any = Forwarding()
    before = frozenset({("127.0.0.1", 8080), ("127.0.0.1", 8081)})
    after = frozenset({("127.0.0.1", 8081), ("127.0.0.1", 8082)})
    change_forwards(monitor, before, after)
    assert monitor.lines == [
        "hostfwd_remove net0 tcp:127.0.0.1:8080",
        "hostfwd_add net0 tcp:127.0.0.1:8082-:8082",
    ]


def test_ports_stay_as_they_were_if_one_is_refused() -> None:
    monitor: Any = Forwarding(8083)
    before = frozenset({("127.0.0.1", 8080)})
    after = frozenset({("127.0.0.1", 8082), ("127.0.0.1", 8083)})
    with pytest.raises(Conflict, match="8083") as caught:
        change_forwards(monitor, before, after)
    assert "Could not set up" in caught.value.cause
    assert monitor.lines[-2:] == [
        "hostfwd_remove net0 tcp:127.0.0.1:8082",
        "hostfwd_add net0 tcp:127.0.0.1:8080-:8080",
    ]


def test_a_later_start_has_the_changed_ports() -> None:
    before = host_record(spec=HostSpec(ports=(8080,), bind="127.9.9.9"))
    after = replace(before, spec=HostSpec(ports=(8080, 8081), bind="127.9.9.9"))
    arguments = attach(before)[1]
    assert tuple(update_forwards(arguments, after)) == attach(after)[1]
    # A network card of libvirt's network has no forwards.
    networked = host_record(spec=HostSpec(network="lab"))
    assert update_forwards(["-S"], networked) == ["-S"]
