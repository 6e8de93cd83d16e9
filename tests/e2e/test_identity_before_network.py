# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fork is not seen before it is itself: a capture on its link holds nothing of the template's."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, SingleSpec, TemplateInfo, Yard
from stockyard.model.host import HostRecord
from stockyard.providers.libvirt.monitor import Monitor
from tests.helpers.values import present

from .conftest import WORK

pytestmark = pytest.mark.real
FILE_HEADER, RECORD_HEADER = 24, 16


def frames(capture: bytes) -> list[bytes]:
    """The Ethernet frames of a pcap file."""
    captured, at = [], FILE_HEADER
    while at < len(capture):
        length = struct.unpack_from("<IIII", capture, at)[2]
        captured.append(capture[at + RECORD_HEADER : at + RECORD_HEADER + length])
        at += RECORD_HEADER + length
    return captured


def test_no_frame_before_the_identity_and_none_of_the_templates(
    yard: Yard, template: TemplateInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = WORK / "fence.pcap"
    capture.unlink(missing_ok=True)
    provider: Any = yard.context.provider
    create, set_link = provider._create_paused, provider.set_link
    at_identity: list[int] = []

    def tapped(shape: Any, name: str) -> Any:
        domain = create(shape, name)
        tap: dict[str, Any] = {
            "qom-type": "filter-dump",
            "id": "tap",
            "netdev": "net0",
            "file": str(capture),
        }
        Monitor(domain, name).command("object-add", **tap)
        return domain

    def noted(record: HostRecord, up: bool) -> None:
        at_identity.append(capture.stat().st_size)
        set_link(record, up)

    monkeypatch.setattr(provider, "_create_paused", tapped)
    monkeypatch.setattr(provider, "set_link", noted)
    try:
        host = yard.hosts.apply(SingleSpec("fenced", "docker")).objects[0]
    finally:
        yard.hosts.delete("fenced")
    assert at_identity == [FILE_HEADER], "the guest sent something before its link came up"
    captured = frames(capture.read_bytes())
    senders = {frame[6:12].hex(":") for frame in captured}
    assert host.mac in senders, "the capture caught nothing: the test would prove nothing"
    assert template.mac not in senders
    assert all(bytes.fromhex(template.mac.replace(":", "")) not in frame for frame in captured)


def test_the_console_log_is_named(yard: Yard, fleet: list[HostInfo]) -> None:
    console_log = Path(present(fleet[0].console_log))
    assert console_log.name == "console.log"
    assert console_log.exists()
