# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains and the records in their metadata: reading all of them, and compare and set of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...errors import Conflict, InvalidInput, NotFound, OperationRefused, StockyardError
from ...hypervisor.records import decode, encode
from ...model.host import HostRecord
from ...model.observation import R, Record, UnreadableObject
from ...model.template import TemplateRecord
from .faults import NO_DOMAIN, translated
from .power import or_ended
from .xml.element import RECORD_NS, element, parse, serialize

# virDomainState of libvirt-domain.h
STATES = {1: "running", 2: "running", 3: "paused", 4: "off", 5: "off", 6: "crashed", 7: "paused"}


class Domains:
    """The domains of one libvirt connection.

    :param connection: a ``libvirt.virConnect``.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def everything(self) -> tuple[list[tuple[Record, str]], list[UnreadableObject]]:
        """Every record of any owner with its domain's state, and what carries our mark but cannot
        be read.
        """
        import libvirt

        found: list[tuple[Record, str]] = []
        unreadable: list[UnreadableObject] = []
        with translated("list the domains"):
            stats = self.connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        for domain, values in stats:
            text = self.metadata(domain)
            if text is None:
                continue
            try:
                record = decode(text)
                self._check_place(domain, record)
                found.append((record, STATES.get(values.get("state.state"), "off")))
            except StockyardError as error:
                unreadable.append(UnreadableObject(domain.name(), str(error)))
        return found, unreadable

    def metadata(self, domain: Any) -> str | None:
        """The record's text; ``None`` when the domain has none or is gone."""
        import libvirt

        with translated("read the domain's record", domain.name()):
            try:
                xml = domain.metadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                    RECORD_NS,
                    libvirt.VIR_DOMAIN_AFFECT_CURRENT,
                )
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, NO_DOMAIN):
                    return None
                raise
        return parse(xml).text or ""

    def find(self, record: Record) -> Any:
        """The domain of a record.

        :raises NotFound: when there is none.
        :raises Refused: when the domain with this uuid is not the one that the record names.
        """
        with translated("look up the domain", record.title):
            domain = self.connection.lookupByUUIDString(record.uuid)
        text = self.metadata(domain)
        if text is None:
            raise OperationRefused(
                "the domain with its uuid does not carry our mark.", name=record.title
            )
        there = decode(text)
        if (there.owner, there.kind, there.uuid) != (record.owner, record.kind, record.uuid):
            raise OperationRefused(
                "the domain with its uuid belongs to somebody else.", name=record.title
            )
        return domain

    def present(self, record: Record) -> Any | None:
        """The domain of a record, or ``None``."""
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
        """Put a domain on record."""
        with translated("define the domain", name):
            return self.connection.defineXML(xml)

    def undefine(self, domain: Any, name: str) -> None:
        """Take a domain off the record, with all that libvirt keeps of it: saved memory, snapshots,
        checkpoints.
        """
        import libvirt

        always = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
        newer = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        with translated("undefine the domain", name):
            try:
                domain.undefineFlags(always | newer)
            except libvirt.libvirtError as error:
                # A driver that has no such attachments refuses their flags.
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                    raise
                domain.undefineFlags(always)

    def replace_record(self, record: R, **changes: Any) -> R:
        """Write a changed record, if the one on record is still the caller's. Call it
        under a lock.
        """
        import libvirt

        domain = self.find(record)
        current = decode(self.metadata(domain) or "")
        if current.version != record.version:
            raise Conflict(
                "it was changed meanwhile.",
                name=record.title,
                cause=f"version {current.version} is on record, {record.version} was expected",
                remedy="run again",
            )
        changed = replace(record, version=record.version + 1, **changes)
        # libvirt puts the namespace on the element itself, and fails when it is there already.
        bare = serialize(element("record", text=encode(changed)))
        what = (libvirt.VIR_DOMAIN_METADATA_ELEMENT, bare, "stockyard", RECORD_NS)
        config, live = libvirt.VIR_DOMAIN_AFFECT_CONFIG, libvirt.VIR_DOMAIN_AFFECT_LIVE
        with translated("write the record", record.title):
            if domain.isActive():
                with or_ended(domain):
                    domain.setMetadata(*what, config | live)
                    return changed
            domain.setMetadata(*what, config)
        return changed

    def refuse_if_used(self, record: TemplateRecord) -> None:
        """Refuse where a host lives on a template, or may.

        :raises Refused: naming the hosts.
        """
        found, unreadable = self.everything()
        key = (record.owner, record.tenant, record.name, record.generation)
        hosts = [r for r, _state in found if isinstance(r, HostRecord)]
        users = sorted(
            r.name for r in hosts if (r.owner, r.tenant, r.template, r.generation) == key
        )
        if users:
            lives = f"hosts live on it: {', '.join(users[:10])}."
            raise OperationRefused(lives, name=record.title, remedy="destroy the hosts first")
        if unreadable:
            raise OperationRefused(
                "a domain that carries our mark cannot be read, and may live on it.",
                name=record.title,
                cause=f"{unreadable[0].name}: {unreadable[0].reason}",
                remedy="mend or remove that domain by hand",
            )

    def addresses(self) -> set[str]:
        """Return the address of every host, of any owner."""
        return {r.address for r, _state in self.everything()[0] if isinstance(r, HostRecord)}

    def names(self) -> Iterator[str]:
        """Names of all domains, ours or not."""
        with translated("list the domains"):
            return iter([d.name() for d in self.connection.listAllDomains()])

    def texts(self) -> list[str]:
        """The definition of every domain, ours or not, as it runs and as it is on disk. Never
        partial: it raises.
        """
        import libvirt

        with translated("read the domains"):
            domains = self.connection.listAllDomains()
            stored = [d.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for d in domains]
            return stored + [d.XMLDesc(0) for d in domains]

    def _check_place(self, domain: Any, record: Record) -> None:
        """A record that was copied with its domain's XML proves nothing of the copy."""
        if domain.UUIDString() != record.uuid:
            raise InvalidInput("its record names another uuid: it is a copy of a host of ours.")
