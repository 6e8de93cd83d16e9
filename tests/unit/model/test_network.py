# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid and invalid declarations of a host's network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockyard import FleetSpec, HostSpec, InvalidInput
from stockyard.hypervisor import records
from stockyard.model import codec
from stockyard.model.network import clash, endpoint
from tests.helpers.samples import HOSTILE, host_record

NEW = ("bind", "egress", "egress_proxy", "network")


@pytest.mark.parametrize(
    "value", [*HOSTILE, "proxy", "proxy:0", "proxy:65536", "http://proxy:3128", "-R:22", "a:1:2"]
)
def test_invalid_proxy_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        HostSpec(egress="proxy", egress_proxy=value)


@pytest.mark.parametrize("value", ["proxy.example.org:3128", "127.0.0.1:1", "a:65535"])
def test_a_proxy_is_taken(value: str) -> None:
    assert "{}:{}".format(*endpoint(value)) == value
    assert HostSpec(egress="proxy", egress_proxy=value).egress_proxy == value


@pytest.mark.parametrize("value", [v for v in HOSTILE if v not in ("", "a-", "A", "a.b", "a b")])
@pytest.mark.parametrize("option", ["bind", "network"])
def test_value_that_is_neither_address_nor_network_is_refused(option: str, value: str) -> None:
    wrong: dict[str, Any] = {option: value}
    with pytest.raises(InvalidInput):
        HostSpec(**wrong)


@pytest.mark.parametrize("name", ["virbr0", "VM Network", "DPG 12 (lab)", "a" * 80])
def test_networks_are_called_as_vsphere_and_libvirt_call_them(name: str) -> None:
    assert HostSpec(network=name).network == name


@pytest.mark.parametrize("value", ["a b", "VM Network"])
def test_a_bind_address_has_no_blanks(value: str) -> None:
    with pytest.raises(InvalidInput):
        HostSpec(bind=value)


@pytest.mark.parametrize("value", [" a", "a ", "a\tb", "a/b", "a" * 81])
def test_a_network_is_called_nothing_else(value: str) -> None:
    with pytest.raises(InvalidInput):
        HostSpec(network=value)


@pytest.mark.parametrize(
    "options",
    [
        {"egress": "some"},
        {"egress": "proxy"},
        {"egress": "open", "egress_proxy": "proxy:3128"},
        {"egress_proxy": "proxy:3128"},
        {"egress": "proxy", "egress_proxy": "proxy:3128", "ports": (3128,)},
        {"bind": "127.0.0.1", "network": "default"},
        {"bind": "::1"},
    ],
)
def test_contradictory_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        HostSpec(**options)
    assert caught.value.remedy


def test_equal_hosts_cannot_all_have_one_port() -> None:
    bound = HostSpec(ports=(8080,), bind="127.0.0.1")
    assert FleetSpec("ci", "base", host=bound).count == 1
    with pytest.raises(InvalidInput, match=r"fleet ci.*8080"):
        FleetSpec("ci", "base", count=2, host=bound)


def test_a_record_from_before_is_read() -> None:
    record = host_record()
    old = {"kind": "host", "schema": records.SCHEMA, **codec.to_dict(record)}
    for field in NEW:
        del old["spec"][field]
    assert records.decode(json.dumps(old)) == record
    assert record.spec.egress == "none"


@pytest.mark.parametrize(
    ("requested", "used", "collides"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("127.0.0.1", 81), False),
        (("127.0.0.1", 80), ("127.0.0.2", 80), False),
        (("0.0.0.0", 80), ("127.0.0.2", 80), True),  # noqa: S104
        (("", 80), ("0.0.0.0", 80), True),  # noqa: S104
    ],
)
def test_a_port_is_had_once_at_an_address(
    requested: tuple[str, int], used: tuple[str, int], collides: bool
) -> None:
    assert clash(frozenset({requested}), [used]) == (requested if collides else None)


def test_where_a_host_answers() -> None:
    own = host_record(spec=HostSpec(ports=(80,)))
    assert (own.published, own.ssh_port) == (frozenset({(own.address, 80)}), 2222)
    assert host_record(spec=HostSpec(ports=(80,), bind="127.0.0.1")).published == {
        ("127.0.0.1", 80)
    }
    routed = host_record(spec=HostSpec(ports=(80,), network="default", egress="open"))
    assert (routed.published, routed.ssh_port) == (frozenset(), 22)
