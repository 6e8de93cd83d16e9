# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hypervisor can do."""

from __future__ import annotations

from dataclasses import dataclass

# The addresses that QEMU's guests have.
FIRST_MAC, MACS = "52:54:00:00:00:00", 1 << 24


@dataclass(frozen=True)
class Capabilities:
    """What a hypervisor can do. Services ask this and never which hypervisor it is.

    :param modes: fork modes, best first.
    :param parallel: how many forks at once it serves well.
    :param endpoints: whether its hosts answer on the network, at the addresses that are on record.
    :param first_mac: the lowest MAC address that its machines may have; QEMU's guests have their
        own prefix.
    :param macs: how many there are from there on.
    :param ram_file: whether a template's RAM is a file in which zeroes take no room.
    :param resizes: whether running machines can be given more.
    :param shrinks: whether running machines give back what they were given.
    :param builds: whether images are built of packages here; else templates are cloned of what
        there is.
    :param volumes: whether it has data disks that outlive hosts.
    :param guest_agent: the URI by which Ansible's connection ``community.libvirt.libvirt_qemu``
        reaches its hosts from any shell; empty if it cannot.
    :param sets_clocks: whether it corrects the clocks of guests that stood still by itself, as
        VMware Tools do.
    :param own_files: whether its machines' files are kept by us: such may be left behind. vCenter
        removes them itself.
    """

    modes: tuple[str, ...]
    parallel: int
    endpoints: bool = True
    first_mac: str = FIRST_MAC
    macs: int = MACS
    own_files: bool = True
    builds: bool = True
    ram_file: bool = False
    resizes: bool = False
    shrinks: bool = True
    volumes: bool = False
    guest_agent: str = ""
    sets_clocks: bool = False
