# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine type, accelerator and processors of a new template, and those that a template was
frozen with.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...errors import HypervisorError, Unsupported
from ...model.template import Hardware
from . import network
from .xml.element import QEMU_NS, Element, parse

CPUINFO = Path("/proc/cpuinfo")
KVM = Path("/dev/kvm")
# libvirt's domain type for each accelerator.
DOMAIN_TYPE = {"kvm": "kvm", "tcg": "qemu"}
# Features with which programs and the kernel zero and copy memory byte by byte (rep stosb, rep
# movsb). Such an instruction is fast in a processor, but QEMU emulates each byte of it: a page
# takes four to eight times as long as with wide instructions.
SLOW_IF_EMULATED = ("erms", "fsrm")


@dataclass(frozen=True)
class Machine:
    """Properties that a fork must share with its template or branch, in addition to the hardware.

    :param type: libvirt's domain type, ``kvm`` or ``qemu``.
    :param vcpus: processors that are plugged in at start. With KVM these are the template's, and
        more are plugged in later. Linux 6.12 recognizes KVM and refuses such processors in a
        machine of unknown kind (acpi_is_processor_usable()), for which it takes an emulated
        machine: there all processors are plugged in, and the guest uses some of them.
    :param machine: QEMU's machine type; an alias at first, the versioned name once frozen.
    :param disabled_features: features that the processors do not have.
    :param reports_panic: whether the machine has a device that reports a panic of the guest's
        kernel: the machine then ends at once. Without it, the guest stands still.
    :param has_uplink: whether the machine has a second card, which leads out of the hypervisor.
    :param cpu_model: the named CPU model; empty for none.
    """

    type: str
    vcpus: int
    machine: str = "q35"
    disabled_features: tuple[str, ...] = ()
    reports_panic: bool = False
    has_uplink: bool = False
    cpu_model: str = ""

    @property
    def cpu_mode(self) -> str:
        """Return the named model; else the host's own CPU under KVM, and all features that TCG can
        emulate.
        """
        if self.cpu_model:
            return "custom"
        return "host-passthrough" if self.type == "kvm" else "maximum"


def choose(hardware: Hardware, name: str) -> Machine:
    """Return the machine for a new template.

    KVM is used if the CPU shows vmx or svm and the device may be opened: the device alone proves
    little.

    :raises Unsupported: if ``kvm`` is requested and not available.
    """
    accelerator = hardware.accelerator
    kvm_usable = _cpu_virtualizes() and os.access(KVM, os.R_OK | os.W_OK)
    if accelerator == "kvm" and not os.access(KVM, os.R_OK | os.W_OK):
        raise Unsupported(
            "accelerator is kvm, and /dev/kvm cannot be opened.",
            name=name,
            remedy="load the kvm module and join the group kvm, or set accelerator to auto or tcg",
        )
    selection = accelerator if accelerator != "auto" else "kvm" if kvm_usable else "tcg"
    vcpus = hardware.vcpus if selection == "kvm" else hardware.max_vcpus
    disabled_features = () if selection == "kvm" else SLOW_IF_EMULATED
    return Machine(
        DOMAIN_TYPE[selection],
        vcpus,
        disabled_features=disabled_features,
        reports_panic=True,
        has_uplink=True,
        cpu_model=hardware.cpu.model,
    )


def frozen(definition: str) -> Machine:
    """Return the machine that a template, a branch or a running host was started with, read from
    its definition.
    """
    root = parse(definition)
    os_type = root.find("./os/type")
    machine = os_type.get("machine") if os_type is not None else None
    if not machine:
        raise HypervisorError(
            "the definition names no machine type.", remedy="rebuild the template"
        )
    features = root.findall("./cpu/feature[@policy='disable']")
    names = {feature.get("name") for feature in features}
    disabled_features = tuple(name for name in SLOW_IF_EMULATED if name in names)
    return Machine(
        root.get("type", "qemu"),
        _plugged_in(root),
        machine,
        disabled_features,
        root.find("./devices/panic") is not None,
        network.UPLINK_CARD[-1] in _arguments(root),
        _named_model(root),
    )


def added_processors(root: Element) -> int:
    """Return the number of processors that were plugged in after the start of a machine."""
    return sum(
        (processor.get("enabled"), processor.get("hotpluggable")) == ("yes", "yes")
        for processor in root.findall("./vcpus/vcpu")
    )


def _plugged_in(root: Element) -> int:
    """Return the number of processors at start. libvirt omits it if it is the maximum."""
    vcpu = root.find("./vcpu")
    count = int(vcpu.get("current") or vcpu.text or 1) if vcpu is not None else 1
    return count - added_processors(root)


def _named_model(root: Element) -> str:
    """Return the CPU model of a machine that was defined with a named one."""
    return root.findtext("./cpu[@mode='custom']/model") or ""


def _arguments(root: Element) -> set[str]:
    """Return the arguments of QEMU in a definition."""
    return {argument.get("value", "") for argument in root.iter(f"{{{QEMU_NS}}}arg")}


def _cpu_virtualizes() -> bool:
    try:
        cpuinfo = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    lines = (line.split() for line in cpuinfo.splitlines() if line.startswith("flags"))
    return any("vmx" in words or "svm" in words for words in lines)
