# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the definition of an existing domain, for its later starts."""

from __future__ import annotations

from typing import Any

from ...model.host import HostRecord
from . import network
from .faults import translated
from .xml.element import QEMU_NS, Element, parse, serialize


def with_forwards(domain: Any, record: HostRecord) -> str:
    """Return the definition of a domain with the present forwards of a host."""
    import libvirt

    with translated("read the definition", record.title):
        tree = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    set_forwards(tree, record)
    return serialize(tree)


def set_forwards(tree: Element, record: HostRecord) -> bool:
    """Give a definition the present forwards of a host; return whether it changed."""
    command_line = tree.find(f"{{{QEMU_NS}}}commandline")
    if command_line is None:
        return False
    before = [argument.get("value", "") for argument in command_line]
    after = network.update_forwards(before, record)
    for argument, value in zip(command_line, after, strict=True):
        argument.set("value", value)
    return before != after
