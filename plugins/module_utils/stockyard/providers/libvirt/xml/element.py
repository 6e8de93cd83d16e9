# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building elements. Text and attributes are escaped by ElementTree; what XML cannot carry is
refused.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ....errors import InvalidInput

Element = ElementTree.Element
QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
RECORD_NS = "https://stockyard.dev/xmlns/record/1"
# XML 1.0, production 2: everything else has no way to be written.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ElementTree.register_namespace("qemu", QEMU_NS)
ElementTree.register_namespace("stockyard", RECORD_NS)


def element(tag: str, *children: Element, text: str = "", **attributes: object) -> Element:
    """One element; attributes that are ``None`` are left out, a trailing ``_`` of a name is
    dropped.
    """
    made = Element(
        tag, {k.rstrip("_"): _legal(str(v)) for k, v in attributes.items() if v is not None}
    )
    made.text = _legal(text) or None
    made.extend(children)
    return made


def serialize(root: Element) -> str:
    """The element as XML text."""
    return ElementTree.tostring(root, encoding="unicode")


def parse(text: str) -> Element:
    """XML text as an element."""
    # it comes from libvirt, and expat here expands no entities
    return ElementTree.fromstring(text)  # noqa: S314


def _legal(text: str) -> str:
    if _NOT_XML.search(text):
        raise InvalidInput(
            "a value holds a character that XML cannot carry.", remedy="take out control characters"
        )
    return text
