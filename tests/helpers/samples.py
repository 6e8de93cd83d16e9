# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sample values for tests: records, and text that no name may be."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from stockyard.model.host import Host, HostRecord, HostSpec
from stockyard.model.template import Hardware, TemplateRecord
from stockyard.resources.hosts.reservation import address_of, mac_of

# Invalid names.
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "../../etc/x",
    "a'/><qemu:arg value='-x",
    "$(id)",
    "`id`",
    "a;b",
    "a b",
    "a\nb",
    "a\n",
    "a\0b",
    "a" * 300,
    "а",  # Cyrillic
    "ａ",  # full width
    "a\u200bb",
    "\ud800",
    "-a",
    "a-",
    "A",
    "a.b",
    "a/b",
    "{{ a }}",
    "%s",
]

# A host key as guests make it.
HOST_KEY = f"ssh-ed25519 {'A' * 68}"


def host_record(**changes: Any) -> HostRecord:
    """A host as it may be on record."""
    own = uuid.uuid4()
    record = HostRecord(
        owner="stockyard",
        tenant="default",
        fleet="ci",
        name="ci-1",
        uuid=str(own),
        template="base",
        generation="g1" * 32,
        spec=HostSpec(),
        ssh_user="stockyard",
        mac=mac_of(own),
        address=address_of(own),
        phase="ready",
        created=1.0,
    )
    return replace(record, **changes)


def host(state: str = "running", **changes: Any) -> Host:
    """A host as it may be observed."""
    return Host(host_record(**changes), state)


def template_record(**changes: Any) -> TemplateRecord:
    """A template as it may be on record."""
    own = uuid.uuid4()
    record = TemplateRecord(
        owner="stockyard",
        tenant="default",
        name="base",
        uuid=str(own),
        generation="g1" * 32,
        recipe="r1" * 32,
        image="i1" * 32,
        hardware=Hardware(),
        docker="running",
        ssh_user="stockyard",
        phase="frozen",
        created=1.0,
        mac=mac_of(own),
    )
    return replace(record, **changes)
