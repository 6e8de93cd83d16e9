# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of libvirt's networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import Conflict, Unsupported
from stockyard.providers.libvirt.subnet import Subnet, read

# As `virsh net-dumpxml` writes it.
NAT = """
<network connections='1'>
  <name>default</name>
  <uuid>c1f2a3b4-0000-4000-8000-000000000000</uuid>
  <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.128' end='192.168.122.254'/>
      <host mac='52:54:00:00:00:01' ip='192.168.122.5'/>
    </dhcp>
  </ip>
</network>
"""
SMALL = Subnet("small", "192.168.9.0/29", "192.168.9.1", ranges=(("192.168.9.4", "192.168.9.6"),))


def test_a_definition_is_read() -> None:
    assert read(NAT, "default") == Subnet(
        "default",
        "192.168.122.0/24",
        "192.168.122.1",
        "nat",
        frozenset({"192.168.122.5"}),
        (("192.168.122.128", "192.168.122.254"),),
    )


def test_an_isolated_network_does_not_forward() -> None:
    assert read("<network><ip address='10.9.0.1' prefix='16'/></network>", "x").forward == ""


@pytest.mark.parametrize(
    "text", ["<network/>", "<network><ip family='ipv6' address='fd00::1' prefix='64'/></network>"]
)
def test_a_network_without_addresses_is_refused(text: str) -> None:
    with pytest.raises(Unsupported, match="network bare"):
        read(text, "bare")


@given(st.integers(0, 2**128 - 1))
def test_address_is_outside_the_dhcp_range(start: int) -> None:
    subnet = read(NAT, "default")
    last = int(subnet.free(start, {"192.168.122.77"}, ()).rpartition(".")[2])
    assert 2 <= last <= 127
    assert last not in (5, 77)


def test_dhcp_range_is_used_last_and_without_leased_addresses() -> None:
    used = {"192.168.9.2", "192.168.9.3"}
    assert SMALL.free(0, used, ["192.168.9.4"]) == "192.168.9.5"
    with pytest.raises(Conflict, match="network small"):
        SMALL.free(0, used, [f"192.168.9.{n}" for n in (4, 5, 6)])


def test_a_large_network_is_not_walked_to_its_end() -> None:
    assert Subnet("large", "10.0.0.0/8", "10.0.0.1").free(2**127, (), ()).startswith("10.")
