# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform of a libvirt hypervisor: QEMU, machine type and processor, as libvirt reports them.

libvirt expands the processor that a machine gets (the mode ``host-model`` of its domain
capabilities) for each accelerator. A machine with the hypervisor's own CPU has this processor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...errors import Unsupported
from ...model.platform import Drift, Platform, compare
from ...model.template import Hardware, TemplateRecord
from ..common.resumable import require
from .faults import translated
from .machine import DOMAIN_TYPE, Machine
from .xml.element import Element, parse

CPUINFO = Path("/proc/cpuinfo")
# virErrorNumber of libvirt/virterror.h: the driver reports no capabilities; an unknown machine type
# or accelerator.
NO_SUPPORT, UNAVAILABLE = 3, (8, 67)
ACCELERATOR = {domain_type: name for name, domain_type in DOMAIN_TYPE.items()}
SHOWN_MODELS = 12


class Platforms:
    """The platforms of one libvirt connection. Each is read once for each version of QEMU.

    :param connection: a ``libvirt.virConnect``.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._capabilities: dict[tuple[str, str, str], Element | None] = {}

    def of(self, machine: Machine) -> Platform | None:
        """Return the platform of a machine that runs here; ``None`` if libvirt does not report
        it.
        """
        return self._current(machine.type, machine.machine, machine.cpu_model)

    def drift(self, record: TemplateRecord) -> tuple[Drift, ...]:
        """Return the differences of the platform from the one that a template was frozen on."""
        frozen, model = record.platform, record.hardware.cpu.model
        if frozen is None:
            return ()
        current = self._current(DOMAIN_TYPE[frozen.accelerator], frozen.machine, model)
        return compare(frozen, current, has_named_model=bool(model))

    def require(self, record: TemplateRecord, mode: str = "instant") -> None:
        """Refuse a fork that is not possible here, see :func:`..common.resumable.require`."""
        require(record, self.drift(record), mode)

    def check_model(self, hardware: Hardware, machine: Machine, name: str) -> None:
        """Refuse a CPU model that machines cannot have here.

        :param name: the template, for the error.
        :raises Unsupported: with the available models.
        """
        model = hardware.cpu.model
        capabilities = self._read(machine.type, machine.machine) if model else None
        if capabilities is None:
            return
        models = _usable_models(capabilities)
        if model not in models:
            first_models = ", ".join(models[:SHOWN_MODELS])
            suffix = f" and {len(models) - SHOWN_MODELS} more"
            raise Unsupported(
                f"cpu model {model} is not available with {ACCELERATOR[machine.type]}.",
                name=name,
                cause=f"available are {first_models}{suffix if len(models) > SHOWN_MODELS else ''}",
                remedy="declare an available model: virsh domcapabilities --virttype "
                f"{machine.type}",
            )

    def _current(self, domain_type: str, machine: str, model: str) -> Platform | None:
        version = self._version()
        try:
            capabilities = self._read(domain_type, machine)
        except Unsupported:
            return Platform(version, "", ACCELERATOR[domain_type])
        if capabilities is None:
            return None
        expanded = capabilities.find("./cpu/mode[@name='host-model']")
        if model:
            cpu_model = model if model in _usable_models(capabilities) else ""
            features: tuple[str, ...] = ()
        else:
            cpu_model = (expanded.findtext("model") or "") if expanded is not None else ""
            features = _features(expanded) if expanded is not None else ()
        return Platform(
            version,
            capabilities.findtext("machine") or machine,
            ACCELERATOR[domain_type],
            cpu_model,
            features,
            os.uname().release,
            _microcode(),
        )

    def _version(self) -> str:
        with translated("read the version of QEMU"):
            number = int(self._connection.getVersion())
        return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"

    def _read(self, domain_type: str, machine: str) -> Element | None:
        """Return the capabilities of machines; ``None`` if libvirt does not report them.

        :raises Unsupported: if the machine type or the accelerator is not available.
        """
        key = (self._version(), domain_type, machine)
        if key not in self._capabilities:
            self._capabilities[key] = self._ask(domain_type, machine)
        return self._capabilities[key]

    def _ask(self, domain_type: str, machine: str) -> Element | None:
        import libvirt

        with translated("read the capabilities of machines", f"machine type {machine}"):
            try:
                return parse(
                    self._connection.getDomainCapabilities(None, "x86_64", machine, domain_type, 0)
                )
            except libvirt.libvirtError as error:
                if error.get_error_code() == NO_SUPPORT:
                    return None
                if error.get_error_code() not in UNAVAILABLE:
                    raise
                raise Unsupported(
                    f"machine type {machine} is not available with {ACCELERATOR[domain_type]}.",
                    cause=str(error),
                    remedy="build the template again",
                ) from error


def _usable_models(capabilities: Element) -> list[str]:
    models = capabilities.findall("./cpu/mode[@name='custom']/model[@usable='yes']")
    return [model.text or "" for model in models]


def _features(expanded: Element) -> tuple[str, ...]:
    """Return the features in addition to the model, and those of the model that are absent."""
    return tuple(
        sorted(
            f"{'!' * (feature.get('policy') == 'disable')}{feature.get('name', '')}"
            for feature in expanded.findall("feature")
        )
    )


def _microcode() -> str:
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.startswith("microcode"))
    return next(values, "")
