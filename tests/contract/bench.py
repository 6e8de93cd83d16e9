# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access of the contract suite to a hypervisor besides the port: to open it again, and to damage
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stockyard import ImageSpec, Login, TemplateSpec, Yard
from stockyard.hypervisor.provider import Provider
from stockyard.hypervisor.records import encode
from stockyard.model.observation import Record
from stockyard.model.template import TemplateRecord
from stockyard.providers.open import open_provider
from tests.vcsim.simulator import SOURCE, Simulator, finished

OWNER = "contract"
# Where vSphere's provider keeps what has no machine yet, or never has one.
REGISTER, RESERVED, VOLUME = "stockyard-register", "stockyard.host.", "stockyard.volume."


class Bench(Protocol):
    """A hypervisor under test."""

    uri: str
    storage: str | None
    template: TemplateRecord

    def open(self) -> Provider:
        """One more connection."""

    def corrupt(self, record: Record, text: str) -> None:
        """Put a text in the place of a record."""

    def kill(self, record: Record) -> None:
        """End a running machine without asking it."""

    def pause(self, record: Record) -> None:
        """Stop a running machine where it is, as a full disk does."""

    def has_link(self, record: Record) -> bool | None:
        """Return whether the network link of a machine is up; ``None`` if the hypervisor shows
        that only to the guest.
        """

    def forget(self, record: Record) -> None:
        """Remove the record of a machine without stockyard, and leave its files."""

    def has_disk(self, disk: str) -> bool:
        """Whether a volume's disk is there, by what is said of it."""

    def note(self, disk: str) -> str:
        """Return the record of the volume of a disk, as text."""

    def scrawl(self, disk: str, text: str) -> None:
        """Put a text in the place of that."""


class VolumeNotes:
    """A bench whose volume records are files next to their disks."""

    def has_disk(self, disk: str) -> bool:
        return Path(disk).exists()

    def note(self, disk: str) -> str:
        return Path(disk).with_name("volume.json").read_text()

    def scrawl(self, disk: str, text: str) -> None:
        Path(disk).with_name("volume.json").write_text(text)


@dataclass
class MemoryBench(VolumeNotes):
    """A memory hypervisor of one test session."""

    path: Path
    storage: str | None = None
    uri: str = field(init=False)
    template: TemplateRecord = field(init=False)

    def __post_init__(self) -> None:
        self.uri = f"memory://{self.path}"
        with Yard(self.uri, owner=OWNER, pki_dir=str(self.path.parent / "pki")) as yard:
            yard.templates.apply(TemplateSpec("frozen"))
            (template,) = yard.context.provider.observe(OWNER).templates
        self.template = template.record

    def open(self) -> Provider:
        return open_provider(self.uri)

    def corrupt(self, record: Record, text: str) -> None:
        self._edit(record.domain, {"record": text})

    def kill(self, record: Record) -> None:
        self._edit(record.domain, {"state": "off", "link": False})

    def pause(self, record: Record) -> None:
        self._edit(record.domain, {"state": "paused"})

    def has_link(self, record: Record) -> bool:
        _header, *lines = self.path.read_text().splitlines()
        return bool(dict(json.loads(line) for line in lines)[record.domain]["link"])

    def forget(self, record: Record) -> None:
        self._edit(record.domain, None)

    def _edit(self, name: str, changes: dict[str, Any] | None) -> None:
        """Change the file as an editor does: read it, change it and write it again."""
        header, *lines = self.path.read_text().splitlines()
        machines = dict(json.loads(line) for line in lines)
        machines[name] = None if changes is None else {**machines[name], **changes}
        self.path.write_text(
            "\n".join([header, *(json.dumps([n, m]) for n, m in machines.items()), ""])
        )


@dataclass
class LibvirtBench(VolumeNotes):
    """libvirt, with a template that is frozen already."""

    uri: str
    storage: str
    template: TemplateRecord

    def open(self) -> Provider:
        return open_provider(self.uri, self.storage)

    def corrupt(self, record: Record, text: str) -> None:
        import libvirt

        from stockyard.providers.libvirt.xml.element import RECORD_NS, element, serialize

        bare = serialize(element("record", text=text))
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
        self._with_domain(
            record, lambda domain: domain.setMetadata(kind, bare, "stockyard", RECORD_NS, flags)
        )

    def kill(self, record: Record) -> None:
        self._with_domain(record, lambda domain: domain.destroy())

    def pause(self, record: Record) -> None:
        self._with_domain(record, lambda domain: domain.suspend())

    def has_link(self, _record: Record) -> None:
        """QEMU shows it only to the guest: see tests/e2e/test_identity_before_network.py."""

    def forget(self, record: Record) -> None:
        self._with_domain(
            record, lambda domain: (domain.isActive() and domain.destroy(), domain.undefine())
        )

    def _with_domain(self, record: Record, act: Callable[[Any], Any]) -> None:
        import libvirt

        connection = libvirt.open(self.uri)
        try:
            act(connection.lookupByUUIDString(record.uuid))
        finally:
            connection.close()


@dataclass
class VsphereBench:
    """A simulated vCenter of one test session."""

    vcenter: Simulator
    pki: Path
    storage: str | None = None
    uri: str = field(init=False)
    template: TemplateRecord = field(init=False)

    def __post_init__(self) -> None:
        self.uri = self.vcenter.uri + "?endpoints=false"
        self._instance = self.vcenter.connect()
        self.vcenter.prepare(SOURCE)
        self._login = Login(
            self.vcenter.username, self.vcenter.password, True, self.vcenter.ca_path
        )
        with Yard(self.uri, owner=OWNER, pki_dir=str(self.pki), login=self._login) as yard:
            yard.templates.apply(TemplateSpec("frozen", image=ImageSpec(source=SOURCE)))
            (template,) = yard.context.provider.observe(OWNER).templates
        self.template = template.record

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which another process logs in."""
        return self.vcenter.environment

    def open(self) -> Provider:
        return open_provider(self.uri, login=self._login)

    def corrupt(self, record: Record, text: str) -> None:
        """In the machine's own settings, or in the register, where a host is that was not forked
        yet.
        """
        from pyVmomi import vim

        where, key = self._machine(record.domain), "stockyard.record"
        if where is None:
            where, key = self._machine(REGISTER), f"{RESERVED}{record.domain}"
        value = vim.option.OptionValue(key=key, value=f"1 {text}")
        finished(where.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[value])))

    def kill(self, record: Record) -> None:
        self.vcenter.power(self._machine(record.domain)._moId, "poweredOff")

    def pause(self, record: Record) -> None:
        self.vcenter.power(self._machine(record.domain)._moId, "suspended")

    def has_link(self, record: Record) -> bool:
        from pyVmomi import vim

        (card,) = (
            device
            for device in self._machine(record.domain).config.hardware.device
            if isinstance(device, vim.vm.device.VirtualEthernetCard)
        )
        return bool(card.connectable and card.connectable.connected)

    def has_disk(self, disk: str) -> bool:
        from pyVmomi import vim

        content = self._instance.content
        where = content.searchIndex.FindByInventoryPath("DC0")
        try:
            content.virtualDiskManager.QueryVirtualDiskUuid(disk, where)
        except vim.fault.FileFault:
            return False
        return True

    def note(self, disk: str) -> str:
        options = {o.key: o.value for o in self._machine(REGISTER).config.extraConfig}
        return str(options[VOLUME + Path(disk).stem]).removeprefix("1 ")

    def scrawl(self, disk: str, text: str) -> None:
        """In the register's settings; an empty value would take the entry out."""
        from pyVmomi import vim

        value = vim.option.OptionValue(key=VOLUME + Path(disk).stem, value=f"1 {text}")
        finished(self._machine(REGISTER).ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[value])))

    def _machine(self, name: str) -> Any:
        """A machine of the yard's folder; nothing when there is none."""
        return self._instance.content.searchIndex.FindByInventoryPath(f"DC0/vm/stockyard/{name}")


def restore(bench: Bench, record: Record) -> None:
    """Put a record back that was corrupted."""
    bench.corrupt(record, encode(record))
