# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains and the records in their metadata: all are read, and one is compared and set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import NotFound, OperationRefused
from ...hypervisor.records import decode, encode
from ...model.host import SUSPENDED, HostRecord
from ...model.observation import R, Record, UnreadableObject
from ...model.template import TemplateRecord
from ..common.stored_records import compare_and_set, read_record, refuse_unreadable
from .faults import NO_DOMAIN, translated
from .power import or_ended
from .xml.element import RECORD_NS, element, parse, serialize

# The first QEMU with the option rom=off of memory-backend-file, as virConnectGetVersion counts.
READ_ONLY_RAM = 8_002_000
# virDomainState of libvirt-domain.h
STATES = {1: "running", 2: "running", 3: "paused", 4: "off", 5: "off", 6: "crashed", 7: "paused"}


class Domains:
    """The domains of one libvirt connection.

    :param connection: a ``libvirt.virConnect``.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def map_read_only(self) -> bool:
        """Return whether QEMU maps a read-only file of RAM privately: from version 8.2 on."""
        with translated("read the version of QEMU"):
            return bool(self.connection.getVersion() >= READ_ONLY_RAM)

    def read_all(self) -> tuple[list[tuple[Record, str]], list[UnreadableObject]]:
        """Return every record of any owner with its domain's state, and unreadable domains with a
        marker.
        """
        import libvirt

        machines: list[tuple[Record, str]] = []
        unreadable: list[UnreadableObject] = []
        with translated("list the domains"):
            stats = self.connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        for domain, values in stats:
            text = self.metadata(domain)
            if text is None:
                continue
            record = self._record(domain, text)
            if isinstance(record, UnreadableObject):
                unreadable.append(record)
            else:
                machines.append((record, self._state(domain, record, values)))
        return machines, unreadable

    def _state(self, domain: Any, record: Record, values: Mapping[str, int]) -> str:
        """Return the state of a machine. A host whose memory libvirt saves now is suspended."""
        import libvirt

        state = STATES.get(values.get("state.state", 0), "off")
        if record.kind != "host":
            return state
        is_being_saved = (
            state == "paused" and values.get("state.reason") == libvirt.VIR_DOMAIN_PAUSED_SAVE
        )
        if is_being_saved or (state == "off" and self._has_saved_memory(domain)):
            return SUSPENDED
        return state

    def _has_saved_memory(self, domain: Any) -> bool:
        """Return whether libvirt has the memory of a machine that is off."""
        try:
            with translated("read the domain", domain.name()):
                return bool(domain.hasManagedSaveImage())
        except NotFound:
            return False

    def metadata(self, domain: Any, namespace: str = RECORD_NS) -> str | None:
        """Return the record's text; ``None`` if the domain has no record or does not exist.

        The stored definition is read: a domain that libvirt restored from saved memory runs with
        the record of the time of the save.
        """
        import libvirt

        with translated("read the domain's record", domain.name()):
            try:
                xml = _metadata(domain, namespace)
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, NO_DOMAIN):
                    return None
                raise
        return parse(xml).text or ""

    def find(self, record: Record) -> Any:
        """Return the domain of a record.

        :raises NotFound: if the domain does not exist.
        :raises OperationRefused: if the domain with this uuid does not have this record's marker.
        """
        with translated("look up the domain", record.title):
            domain = self.connection.lookupByUUIDString(record.uuid)
        text = self.metadata(domain)
        if text is None:
            raise OperationRefused(
                "the domain with this uuid has no metadata of stockyard.", name=record.title
            )
        stored_record = self._record(domain, text)
        refuse_unreadable(record, stored_record)
        if isinstance(stored_record, UnreadableObject) or (
            stored_record.owner,
            stored_record.kind,
            stored_record.uuid,
        ) != (
            record.owner,
            record.kind,
            record.uuid,
        ):
            raise OperationRefused(
                "the domain with this uuid belongs to another object or owner.", name=record.title
            )
        return domain

    def find_existing(self, record: Record) -> Any | None:
        """Return the domain of a record, or ``None`` if it does not exist."""
        try:
            return self.find(record)
        except NotFound:
            return None

    def is_active(self, uuid: str) -> bool:
        """Return whether a domain of this uuid exists and runs."""
        try:
            with translated("look up the domain", uuid):
                return bool(self.connection.lookupByUUIDString(uuid).isActive())
        except NotFound:
            return False

    def define(self, xml: str, name: str) -> Any:
        """Define a domain in libvirt."""
        with translated("define the domain", name):
            return self.connection.defineXML(xml)

    def undefine(self, domain: Any, name: str) -> None:
        """Undefine a domain with its saved memory, snapshots and checkpoints in libvirt."""
        import libvirt

        common_flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
        newer_flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        )
        with translated("undefine the domain", name):
            try:
                domain.undefineFlags(common_flags | newer_flags)
            except libvirt.libvirtError as error:
                # A driver without such attachments refuses their flags.
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                    raise
                domain.undefineFlags(common_flags)

    def replace_record(self, record: R, **changes: Any) -> R:
        """Write a changed record if the stored version is still the caller's. Call it under a lock.

        :raises Conflict: if the stored version differs.
        """
        import libvirt

        domain = self.find(record)
        stored_record = self._record(domain, self.metadata(domain) or "")
        new_record = compare_and_set(record, stored_record, **changes)
        # libvirt adds the namespace to the element itself, and fails if the element has it already.
        element_text = serialize(element("record", text=encode(new_record)))
        metadata = (libvirt.VIR_DOMAIN_METADATA_ELEMENT, element_text, "stockyard", RECORD_NS)
        config_flag, live_flag = libvirt.VIR_DOMAIN_AFFECT_CONFIG, libvirt.VIR_DOMAIN_AFFECT_LIVE
        with translated("write the record", record.title):
            if domain.isActive():
                with or_ended(domain):
                    domain.setMetadata(*metadata, config_flag | live_flag)
                    return new_record
            domain.setMetadata(*metadata, config_flag)
        return new_record

    def refuse_if_used(self, record: TemplateRecord) -> None:
        """Refuse if a host uses a template, or may use it.

        :raises OperationRefused: with the names of the hosts.
        """
        machines, unreadable = self.read_all()
        key = (record.owner, record.tenant, record.name, record.generation)
        hosts = [host for host, _state in machines if isinstance(host, HostRecord)]
        host_names = sorted(
            host.name
            for host in hosts
            if (host.owner, host.tenant, host.template, host.generation) == key
        )
        if host_names:
            message = f"hosts of the template exist: {', '.join(host_names[:10])}."
            raise OperationRefused(message, name=record.title, remedy="delete the hosts first")
        if unreadable:
            raise OperationRefused(
                "a domain with metadata of stockyard cannot be read, and may be a host of "
                "the template.",
                name=record.title,
                cause=f"{unreadable[0].name}: {unreadable[0].reason}",
                remedy="correct or delete that domain",
            )

    def addresses(self) -> set[str]:
        """Return the address of every host, of any owner."""
        return {
            record.address
            for record, _state in self.read_all()[0]
            if isinstance(record, HostRecord)
        }

    def names(self) -> Iterator[str]:
        """Return the names of all domains, with or without a marker."""
        with translated("list the domains"):
            return iter([domain.name() for domain in self.connection.listAllDomains()])

    def definitions(self) -> list[str]:
        """Return the definitions of every domain, with or without a marker: the running and the
        stored one.

        The list is never partial: an error is raised instead.
        """
        import libvirt

        with translated("read the domains"):
            domains = self.connection.listAllDomains()
            inactive_definitions = [
                domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for domain in domains
            ]
            return inactive_definitions + [domain.XMLDesc(0) for domain in domains]

    def _record(self, domain: Any, text: str) -> Record | UnreadableObject:
        """Return the record in a domain's metadata."""
        return read_record(
            domain.name(), text, decode, lambda record: record.uuid == domain.UUIDString()
        )


def _metadata(domain: Any, namespace: str) -> str:
    import libvirt

    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    try:
        return str(domain.metadata(kind, namespace, libvirt.VIR_DOMAIN_AFFECT_CONFIG))
    except libvirt.libvirtError as error:
        # A transient domain has no stored definition.
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise
        return str(domain.metadata(kind, namespace, libvirt.VIR_DOMAIN_AFFECT_LIVE))
