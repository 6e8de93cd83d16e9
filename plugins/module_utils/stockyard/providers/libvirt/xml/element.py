# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creation of elements.

ElementTree escapes text and attributes; text that XML cannot contain is refused.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ....errors import InvalidInput

Element = ElementTree.Element
QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
RECORD_NS = "https://stockyard.dev/xmlns/record/1"
# The records of branches have a namespace of their own: no observation of hosts contains them.
BRANCH_NS = "https://stockyard.dev/xmlns/branch/1"
# XML 1.0, production 2: no other characters can be written.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ElementTree.register_namespace("qemu", QEMU_NS)
ElementTree.register_namespace("stockyard", RECORD_NS)
ElementTree.register_namespace("branch", BRANCH_NS)


def element(tag: str, *children: Element, text: str = "", **attributes: object) -> Element:
    """Return one element.

    Attributes that are ``None`` are omitted, and a trailing ``_`` of a name is dropped.
    """
    node = Element(
        tag,
        {
            attribute.rstrip("_"): _legal(str(value))
            for attribute, value in attributes.items()
            if value is not None
        },
    )
    node.text = _legal(text) or None
    node.extend(children)
    return node


def serialize(root: Element) -> str:
    """Return the element as XML text."""
    return ElementTree.tostring(root, encoding="unicode")


def parse(text: str) -> Element:
    """Return XML text as an element."""
    # The text comes from libvirt, and expat expands no entities here.
    return ElementTree.fromstring(text)  # noqa: S314


def _legal(text: str) -> str:
    if _NOT_XML.search(text):
        raise InvalidInput(
            "a value contains a character that XML does not allow.",
            remedy="remove control characters",
        )
    return text
