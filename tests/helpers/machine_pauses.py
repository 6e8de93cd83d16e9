# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The times for which a real machine was stopped."""

from __future__ import annotations

import threading
import time
from typing import Any

import libvirt
import libvirt_qemu

from stockyard import Yard
from stockyard.providers.libvirt.provider import LibvirtProvider


class Pauses:
    """The stops of a machine, by QEMU's events STOP and RESUME.

    :param uri: a URI that leads to the daemon of the machine.
    :param uuid: the uuid of the machine.
    """

    def __init__(self, uri: str, uuid: str) -> None:
        self.events: list[tuple[str, float]] = []
        libvirt.virEventRegisterDefaultImpl()
        self.connection = libvirt.open(uri)
        domain = self.connection.lookupByUUIDString(uuid)
        libvirt_qemu.qemuMonitorEventRegister(self.connection, domain, None, self._note, None, 0)
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    def _note(self, *event: Any) -> None:
        _connection, _domain, name, seconds, micros, *_details = event
        if name in ("STOP", "RESUME"):
            self.events.append((name, seconds + micros / 1e6))

    def milliseconds(self) -> float:
        """Return the length of the last stop."""
        end = time.monotonic() + 10
        while not self.events or self.events[-1][0] != "RESUME":
            assert time.monotonic() < end, self.events
            time.sleep(0.1)
        moments = dict(self.events)
        return (moments["RESUME"] - moments["STOP"]) * 1000


def session_uri(yard: Yard) -> str:
    """Return a URI that leads to the daemon of a yard of the user's own session."""
    provider = yard.context.provider
    assert isinstance(provider, LibvirtProvider)
    assert provider.session is not None
    return provider.session.uris()[0]
