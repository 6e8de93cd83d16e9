# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of a domain."""

from __future__ import annotations

from dataclasses import dataclass

from .element import Element, element


@dataclass(frozen=True)
class Disk:
    """A qcow2 file on virtio.

    :param discard: whether space that the guest discards is returned to the storage.
    :param port: the PCI bus of its root port; libvirt chooses one if it is 0.
    """

    path: str
    target: str
    serial: str | None = None
    readonly: bool = False
    discard: bool = False
    port: int = 0

    def xml(self) -> Element:
        """Return ``<disk>``."""
        return element(
            "disk",
            element("driver", name="qemu", type="qcow2", discard="unmap" if self.discard else None),
            element("source", file=self.path),
            element("target", dev=self.target, bus="virtio"),
            *([element("readonly")] if self.readonly else []),
            *([element("serial", text=self.serial)] if self.serial else []),
            *([_address(self.port)] if self.port else []),
            type="file",
            device="disk",
        )


@dataclass(frozen=True)
class Channel:
    """A virtio-serial port; QEMU listens on a socket whose path libvirt chooses."""

    name: str

    def xml(self) -> Element:
        """Return ``<channel>``."""
        return element(
            "channel",
            element("source", mode="bind"),
            element("target", type="virtio", name=self.name),
            type="unix",
        )


@dataclass(frozen=True)
class Console:
    """A serial port whose output goes to a file."""

    path: str

    def xml(self) -> Element:
        """Return ``<serial>``."""
        return element(
            "serial",
            element("source", path=self.path, append="on"),
            element("target", port=0),
            type="file",
        )


@dataclass(frozen=True)
class Controller:
    """A controller of a bus."""

    type: str
    index: int
    model: str | None = None

    def xml(self) -> Element:
        """Return ``<controller>``."""
        return element("controller", type=self.type, index=self.index, model=self.model)


@dataclass(frozen=True)
class Random:
    """A virtio random number generator, fed by the hypervisor's."""

    def xml(self) -> Element:
        """Return ``<rng>``."""
        return element(
            "rng", element("backend", text="/dev/urandom", model="random"), model="virtio"
        )


@dataclass(frozen=True)
class PanicNotifier:
    """The device through which a guest's kernel reports that it panicked."""

    def xml(self) -> Element:
        """Return ``<panic>``."""
        return element("panic", model="isa")


@dataclass(frozen=True)
class Interface:
    """A virtio network device in a libvirt network, with its link down, isolated from other
    guests.
    """

    network: str
    mac: str
    alias: str
    slot: int

    def xml(self) -> Element:
        """Return ``<interface>``."""
        return element(
            "interface",
            element("mac", address=self.mac),
            element("source", network=self.network),
            element("model", type="virtio"),
            # QEMU's own driver instead of vhost: the device then equals the device that the
            # template was frozen with.
            element("driver", name="qemu"),
            element("rom", enabled="no"),
            element("link", state="down"),
            element("port", isolated="yes"),
            element("alias", name=self.alias),
            element(
                "address",
                type="pci",
                domain="0x0000",
                bus="0x00",
                slot=f"{self.slot:#04x}",
                function="0x0",
            ),
            type="network",
        )


def _address(port: int) -> Element:
    """Return the address of the only device behind a root port."""
    return element(
        "address", type="pci", domain="0x0000", bus=f"{port:#04x}", slot="0x00", function="0x0"
    )
