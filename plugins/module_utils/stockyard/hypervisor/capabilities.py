# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The capabilities of a hypervisor."""

from __future__ import annotations

from dataclasses import dataclass

# The MAC addresses of QEMU's guests.
FIRST_MAC, MACS = "52:54:00:00:00:00", 1 << 24


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a hypervisor. Resources check these, and never which hypervisor it is.

    :param modes: fork modes, best first.
    :param parallel: the number of simultaneous forks that it serves well.
    :param endpoints: whether its hosts answer on the network, at the recorded addresses.
    :param first_mac: the lowest MAC address that its machines can have; QEMU's guests have their
        own prefix.
    :param macs: the number of MAC addresses from there on.
    :param ram_file: whether a template's RAM is a file in which zeroes use no space.
    :param resizes: whether running machines can get more vCPUs and memory.
    :param shrinks: whether running machines can return what they got.
    :param builds: whether images are built from packages; else templates are cloned from existing
        machines.
    :param volumes: whether it has data disks that outlive hosts.
    :param guest_agent: the URI by which Ansible's connection ``community.libvirt.libvirt_qemu``
        reaches its hosts from any shell; empty if it cannot.
    :param sets_clocks: whether it corrects the clocks of paused guests by itself, as VMware Tools
        do.
    :param suspends: whether it can save the memory of running machines and resume it later.
    :param own_files: whether stockyard manages the files of its machines, so that files can be
        orphaned. vCenter removes them itself.
    :param derives: whether a template can be derived from a frozen one.
    :param freezes_hosts: whether a template can be created from a running host.
    :param branches_volumes: whether a host with volumes can be branched.
    :param container_ports: whether it forwards the ports that Docker publishes in a host.
    :param settle: seconds from a reply of the agent until it waits for messages again; a guest must
        not be frozen earlier.
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
    suspends: bool = False
    derives: bool = False
    branches_volumes: bool = False
    freezes_hosts: bool = False
    container_ports: bool = False
    settle: float = 1.0
