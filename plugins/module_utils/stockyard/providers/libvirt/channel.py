# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel to the agent in a guest: the socket behind its virtio-serial port."""

from __future__ import annotations

import itertools
import secrets
import socket
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError, HypervisorError
from ...guest import replies
from ...guest.agent import wire
from ...model.untrusted import MalformedData
from .faults import translated
from .xml.element import parse

RETRY = 0.02


def agent_socket(domain: Any, name: str) -> str:
    """Return the path of the socket that leads to the agent of a running domain.

    :raises HypervisorError: if the machine does not run, or has no such socket.
    """
    with translated("read the domain", name):
        definition = parse(domain.XMLDesc(0))
    for device in definition.findall("./devices/channel"):
        target, source = device.find("target"), device.find("source")
        if target is not None and target.get("name") == wire.PORT_NAME:
            path = "" if source is None else source.get("path", "")
            if path:
                return path
            raise HypervisorError(
                "the machine of the host is not running.", name=name, remedy="run again"
            )
    raise HypervisorError(
        "the host's domain has no channel for the agent.", name=name, remedy="replace the host"
    )


class SocketChannel:
    """A channel to one agent, for one request at a time.

    :param path: the Unix socket on which QEMU listens.
    """

    def __init__(self, path: str, name: str, deadline: Deadline) -> None:
        self.name = name
        self._lines = wire.Lines()
        # Start at a random number: the agent may still answer requests of a controller that died,
        # and those answers must not match a request of this controller.
        self._numbers = itertools.count(secrets.randbits(48))
        self._socket = self._connect(path, deadline)

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message and wait for its answer; answers to other requests are dropped."""
        number = next(self._numbers)
        try:
            # Send a line break first: it ends a message that a former controller sent only in part.
            self._within(deadline).sendall(b"\n" + wire.encode({**message, "id": number}))
            while True:
                for line in self._lines.feed(self._within(deadline).recv(65536) or self._hung_up()):
                    reply = replies.decode(line)
                    if reply.get("id") == number:
                        return replies.checked(reply, str(message.get("op")), self.name)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the guest's agent did not answer {message.get('op')} within {deadline.seconds:g} "
                f"s.",
                name=self.name,
                remedy="read the guest's console log; the guest may be overloaded",
            ) from error
        except (OSError, wire.WireError, MalformedData) as error:
            raise replies.unusable(str(message.get("op")), self.name, error) from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _connect(self, path: str, deadline: Deadline) -> socket.socket:
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(path)
                return connection
            except OSError as error:
                connection.close()
                if deadline.passed():
                    raise GuestError(
                        "the guest's channel cannot be opened.", name=self.name, cause=str(error)
                    ) from error
                deadline.pause(RETRY)

    def _within(self, deadline: Deadline) -> socket.socket:
        seconds = deadline.left()
        if seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)
        return self._socket

    def _hung_up(self) -> bytes:
        raise ConnectionResetError("QEMU closed the channel")
