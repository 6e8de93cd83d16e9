# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait for the exit of a container. If the machine is killed, the container has exited too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal
from ..guest.security.reader.streams import Peer
from .calls import Call, Reply
from .containers import Container
from .lines import LONGEST_ANSWER, Lines, payload, send_call
from .machine_life import MachineLife
from .snapshots import KILLED


class WaitCall:
    """One call that waits for the exit of a container. The machine must stay in use."""

    def __init__(self, lines: Lines, life: MachineLife, container: Container) -> None:
        self.lines = lines
        self.life = life
        self.container = container
        self._peer: Peer | None = None

    async def begin(self, call: Call) -> Reply | AsyncIterator[bytes]:
        """Return the result, which comes when the container exits, or another reply of Docker.

        :raises Refusal: if Docker in the machine does not answer.
        """
        peer = self._peer = await self.lines.take(self.container.machine)
        try:
            answer, _headers = await send_call(peer, "POST", call.prefix + call.target)
            if answer.status == HTTPStatus.OK:
                return self._result(payload(peer, answer.body, LONGEST_ANSWER))
            blocks = [block async for block in payload(peer, answer.body, LONGEST_ANSWER)]
            return Reply(answer.status, b"".join(blocks))
        except (OSError, EOFError, ValueError) as error:
            raise Refusal(
                "Docker in the machine of the container ended while it answered. Try again.",
                HTTPStatus.BAD_GATEWAY,
            ) from error

    def end(self) -> None:
        """Close the line to the machine."""
        if self._peer:
            self._peer.abort()

    async def _result(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        received = b""
        try:
            async for block in blocks:
                received += block
        except (OSError, EOFError, ValueError):
            received = b""
        if received:
            yield received
        elif await self.life.has_ended(self.container.machine):
            yield json.dumps({"Error": None, "StatusCode": self._exit_code()}).encode() + b"\n"
        else:
            raise ConnectionError("Docker in the machine ended")

    def _exit_code(self) -> int:
        # The facts of a container that removed itself are gone.
        facts = self.life.snapshots.get(self.container.id) or {}
        return int((facts.get("State") or {}).get("ExitCode", KILLED))
