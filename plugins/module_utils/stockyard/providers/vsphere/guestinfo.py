# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the agent in a guest, from the controller's side: two values of the machine, as the guest has them.

:mod:`...guest.agent.guestinfo` says what they are and what may go over them.
"""

from __future__ import annotations

import uuid
from typing import Any

from ...core.clock import Deadline
from ...errors import DeadlineExceeded, GuestError, HypervisorError, NotFound
from ...guest.agent import guestinfo, wire
from ...guest.agent.guestinfo import ANSWER, PREFIX, REQUEST, SPENT
from . import specs
from .inventory import machine_of, properties
from .session import Session
from .task import Tasks

# Seconds between looks: at once at first, then seldom. A look is one small call.
FIRST_LOOK, LONGEST_LOOK, SLOWER = 0.03, 1.0, 1.3
LOOKED_AT = ("config.extraConfig", "runtime.powerState")
IDLE = {PREFIX + REQUEST: SPENT, PREFIX + ANSWER: SPENT}


class GuestinfoChannel:
    """Speaks to one agent, one request at a time.

    :param ref: the machine.
    """

    def __init__(self, session: Session, tasks: Tasks, ref: Any, name: str) -> None:
        self.name = name
        self._session = session
        self._tasks = tasks
        self._ref = ref
        self._left = ""

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message, wait for its own answer."""
        operation, number = str(message.get("op")), uuid.uuid4().hex
        try:
            value = guestinfo.pack({**message, "id": number})
        except wire.WireError as error:
            raise GuestError(f"{operation} cannot be sent.", name=self.name, cause=str(error)) from error
        self._left = REQUEST
        self._write({PREFIX + REQUEST: value, PREFIX + ANSWER: SPENT}, deadline)
        reply = self._reply(operation, number, deadline)
        self._left = ANSWER
        if reply.get("ok") is not True:
            cause = str(reply.get("error"))[:500]
            raise GuestError(f"the guest's agent could not {operation}.", name=self.name, cause=cause)
        return reply

    def close(self) -> None:
        """Hang up. What was asked and not taken is overwritten; an answer holds nothing but what is public."""
        if self._left == REQUEST:
            self._write(IDLE, Deadline(guestinfo.TOOL_PATIENCE))

    def _write(self, values: dict[str, str], deadline: Deadline) -> None:
        spec = specs.reconfigure(values)
        self._tasks.run("speak to the guest", self.name, lambda: self._ref.ReconfigVM_Task(spec), deadline)

    def _reply(self, operation: str, number: str, deadline: Deadline) -> dict[str, Any]:
        pause = FIRST_LOOK
        deadline.pause(pause)
        while True:
            found = self._answer(operation)
            if found.get("id") == number:
                return found
            if deadline.passed():
                raise DeadlineExceeded(
                    f"the guest's agent did not answer {operation} within {deadline.seconds:g} s.", name=self.name,
                    remedy="look at the guest's console in vCenter; it needs open-vm-tools and the agent",
                )  # fmt: skip
            deadline.pause(pause)
            pause = min(pause * SLOWER, LONGEST_LOOK)

    def _answer(self, operation: str) -> dict[str, Any]:
        try:
            found = properties(self._session, self._ref, LOOKED_AT, self.name)
        except NotFound as error:
            raise GuestError(f"the guest went away before it answered {operation}.", name=self.name) from error
        now = machine_of(self._ref, found)
        if now.power != "poweredOn":
            raise HypervisorError(f"its machine does not run: nobody answers {operation}.", name=self.name)
        value = now.values.get(PREFIX + ANSWER, "")
        if value in ("", SPENT):
            return {}
        try:
            return guestinfo.unpack(value)
        except wire.WireError as error:
            raise GuestError(
                f"the guest's agent gave no usable answer to {operation}.", name=self.name, cause=str(error)
            ) from error
