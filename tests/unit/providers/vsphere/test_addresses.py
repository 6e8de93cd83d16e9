# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The range that hosts get their addresses out of."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import Conflict, InvalidInput
from stockyard.providers.vsphere.addresses import read


def test_addresses_go_round_and_none_is_given_twice() -> None:
    range_ = read("192.0.2.10-192.0.2.12/24", "192.0.2.11")
    assert range_.free(0, []) == "192.0.2.10"
    assert range_.free(2, ["192.0.2.12"]) == "192.0.2.10"
    assert range_.free(1, []) == "192.0.2.12", "the gateway's own is not given"
    with pytest.raises(Conflict, match="in use"):
        range_.free(7, ["192.0.2.10", "192.0.2.12"])


def test_more_hosts_than_the_range_has_addresses_are_refused() -> None:
    """Three, of which the gateway has one; others are elsewhere."""
    range_ = read("192.0.2.10-192.0.2.12/24", "192.0.2.11")
    range_.check_room(2, ["192.0.2.99", "127.64.0.1"])
    with pytest.raises(Conflict, match="2 hosts need an address, and 1 addresses are free"):
        range_.check_room(2, ["192.0.2.12"])


@given(st.integers(0, 2**128), st.sets(st.integers(0, 99)))
def test_free_address_is_in_the_range_and_unused(start: int, used_numbers: set[int]) -> None:
    used = [f"192.0.2.{10 + n}" for n in used_numbers]
    range_ = read("192.0.2.10-192.0.2.150/24")
    free_addresses = range_.free(start, used)
    assert free_addresses not in used
    assert range_.first <= IPv4Address(free_addresses) <= range_.last


@pytest.mark.parametrize(
    ("text", "gateway"),
    [
        ("", ""),
        ("192.0.2.1", ""),
        ("192.0.2.1-192.0.2.9", ""),
        ("192.0.2.9-192.0.2.1/24", ""),
        ("192.0.2.1-192.0.3.1/24", ""),
        ("192.0.2.0-192.0.2.9/24", ""),
        ("192.0.2.1-192.0.2.255/24", ""),
        ("192.0.2.1-192.0.2.9/33", ""),
        ("192.0.2.1-192.0.2.9/24", "198.51.100.1"),
        ("192.0.2.1-192.0.2.9/24", "x"),
        ("2001:db8::1-2001:db8::9/64", ""),
    ],
)
def test_address_range_that_does_not_fit_is_refused(text: str, gateway: str) -> None:
    with pytest.raises(InvalidInput, match="addresses"):
        read(text, gateway)


@pytest.mark.parametrize("text", ["dhcp", "DHCP "])
def test_dhcp_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(InvalidInput, match="DHCP") as caught:
        read(text)
    assert "certificate" in str(caught.value)
