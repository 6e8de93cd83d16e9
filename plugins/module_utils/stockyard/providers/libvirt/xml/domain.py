# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .element import QEMU_NS, RECORD_NS, Element, element


class Device(Protocol):
    """An element under ``<devices>``."""

    def xml(self) -> Element:
        """Return the device's element."""


@dataclass(frozen=True)
class Domain:
    """A libvirt domain.

    :param type: ``kvm`` or ``qemu``.
    :param record: JSON text of the record in the metadata.
    :param arguments: extra arguments of QEMU's command line.
    :param namespace: XML namespace of the record.
    :param added_vcpus: processors that are plugged in at the start. Devices get a queue for each
        of the other processors, so the difference matters for a stream.
    :param cpu_model: the CPU model of the mode ``custom``.
    """

    type: str
    name: str
    uuid: str
    record: str
    memory_mib: int
    vcpus: int
    max_vcpus: int
    machine: str
    kernel: str
    initrd: str
    cmdline: str
    cpu_mode: str
    devices: tuple[Device, ...]
    arguments: tuple[str, ...]
    namespace: str = RECORD_NS
    added_vcpus: int = 0
    disabled_features: tuple[str, ...] = ()
    cpu_model: str = ""

    def xml(self) -> Element:
        """Return ``<domain>``."""
        return element(
            "domain",
            element("name", text=self.name),
            element("uuid", text=self.uuid),
            element("genid"),
            element("metadata", record_element(self.record, self.namespace)),
            element("memory", text=str(self.memory_mib), unit="MiB"),
            element("vcpu", text=str(self.max_vcpus), current=self.vcpus + self.added_vcpus),
            *([self._processors()] if self.added_vcpus else []),
            self._os(),
            element("features", element("acpi"), element("apic")),
            self._cpu(),
            element("clock", element("timer", name="hpet", present="no"), offset="utc"),
            element("on_crash", text="destroy"),
            self._devices(),
            element(
                f"{{{QEMU_NS}}}commandline",
                *(element(f"{{{QEMU_NS}}}arg", value=argument) for argument in self.arguments),
            ),
            _unused(),
            type=self.type,
        )

    def _cpu(self) -> Element:
        features = (
            element("feature", policy="disable", name=name) for name in self.disabled_features
        )
        if not self.cpu_model:
            return element("cpu", *features, mode=self.cpu_mode)
        # libvirt refuses to start the machine if a feature of the model is not available.
        model = element("model", text=self.cpu_model, fallback="forbid")
        return element("cpu", model, *features, mode=self.cpu_mode, match="exact", check="partial")

    def _processors(self) -> Element:
        enabled = self.vcpus + self.added_vcpus
        return element(
            "vcpus",
            *(
                element(
                    "vcpu",
                    id=number,
                    enabled="yes" if number < enabled else "no",
                    hotpluggable="no" if number < self.vcpus else "yes",
                    order=number + 1 if number < enabled else None,
                )
                for number in range(self.max_vcpus)
            ),
        )

    def _os(self) -> Element:
        return element(
            "os",
            element("type", text="hvm", arch="x86_64", machine=self.machine),
            element("kernel", text=self.kernel),
            element("initrd", text=self.initrd),
            element("cmdline", text=self.cmdline),
        )

    def _devices(self) -> Element:
        # A balloon on a private mapping of a template's RAM punches holes into the template's own
        # file.
        return element(
            "devices",
            *(device.xml() for device in self.devices),
            element("memballoon", model="none"),
        )


def _unused() -> Element:
    """Return the capabilities of QEMU that libvirt must not use (its "QEMU driver" page,
    capabilities).

    Without this one libvirt reads the processor's features in two queries instead of one query for
    each feature, which took most of the time that it needs for a machine. The features matter only
    for processors that are described in the domain: stockyard's are QEMU's or the hypervisor's own.
    """
    return element(
        f"{{{QEMU_NS}}}capabilities",
        element(f"{{{QEMU_NS}}}del", capability="cpu-unavailable-features"),
    )


def record_element(record: str, namespace: str = RECORD_NS) -> Element:
    """Return the element of a record in a domain's metadata."""
    return element(f"{{{namespace}}}record", text=record)
