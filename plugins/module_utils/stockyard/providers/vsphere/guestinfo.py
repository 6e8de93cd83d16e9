# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the channel to the agent in a guest.

The channel consists of two values of the machine that the guest can read and write.

:mod:`...guest.agent.guestinfo` describes the values and the messages that they may carry.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError, HypervisorError
from ...guest import replies
from ...guest.agent import guestinfo, wire
from ...guest.agent.guestinfo import ANSWER, PREFIX, REQUEST, SPENT
from ...model.untrusted import MalformedData
from . import specs
from .faults import translated
from .inventory import machine_of, together
from .records import RECORD, Machine, option
from .session import Session
from .task import PROPERTIES as TASK

# Seconds between polls: short at first, then longer. A poll is one small call.
FIRST_LOOK, LONGEST_LOOK, SLOWER = 0.03, 1.0, 1.3
LOOKED_AT = (
    "name",
    "config.uuid",
    "config.changeVersion",
    "runtime.powerState",
    option(RECORD),
    option(PREFIX + ANSWER),
)
WRITING = "send a request to the guest"
IDLE = {PREFIX + REQUEST: SPENT, PREFIX + ANSWER: SPENT}


class GuestinfoChannel:
    """The channel to one agent, for one request at a time.

    Each poll for the answer also polls the task that writes the request, so no separate wait for
    that task is needed.

    :param ref: the machine.
    :param on_reply: called with the machine as it was read when the agent had answered.
    """

    def __init__(
        self, session: Session, ref: Any, name: str, on_reply: Callable[[Machine], None]
    ) -> None:
        self.name = name
        self._session = session
        self._ref = ref
        self._saw = on_reply
        self._left = ""

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message and wait for its answer."""
        operation, number = str(message.get("op")), uuid.uuid4().hex
        try:
            value = guestinfo.pack({**message, "id": number})
        except wire.WireError as error:
            raise GuestError(
                f"{operation} cannot be sent.", name=self.name, cause=str(error)
            ) from error
        self._left = REQUEST
        task = self._write({PREFIX + REQUEST: value, PREFIX + ANSWER: SPENT})
        reply = self._reply(operation, number, task, deadline)
        self._left = ANSWER
        return replies.checked(reply, operation, self.name)

    def close(self) -> None:
        """Close the channel.

        A request that the agent has not read is overwritten. An answer contains only public data.
        """
        if self._left == REQUEST:
            task, deadline = self._write(IDLE), Deadline(guestinfo.TOOL_PATIENCE)
            pauses = _pauses(deadline)
            while not self._written(task):
                deadline.check(
                    WRITING, name=self.name, remedy="inspect the task in vCenter, then run again"
                )
                next(pauses)

    def _write(self, values: dict[str, str]) -> Any:
        """Start the task in which vCenter writes the values, and return it."""
        spec = specs.reconfigure(values)
        return self._session.change(WRITING, self.name, lambda: self._ref.ReconfigVM_Task(spec))

    def _reply(self, operation: str, number: str, task: Any, deadline: Deadline) -> dict[str, Any]:
        pauses = _pauses(deadline)
        while True:
            next(pauses)
            reply = self._look(operation, task)
            if reply.get("id") == number:
                return reply
            if deadline.passed():
                raise DeadlineExceeded(
                    f"the guest's agent did not answer {operation} within {deadline.seconds:g} s.",
                    name=self.name,
                    remedy="check the guest's console in vCenter; the guest needs "
                    "open-vm-tools and the agent",
                )

    def _look(self, operation: str, task: Any) -> dict[str, Any]:
        """Return the answer once the request is written; an empty reply before that."""
        objects = together(self._session, [(self._ref, LOOKED_AT), (task, TASK)], self.name)
        values_by_id = {ref._moId: values for ref, values in objects}
        if self._ref._moId not in values_by_id:
            raise GuestError(f"the guest ended before it answered {operation}.", name=self.name)
        is_written = self._ended(values_by_id.get(task._moId))
        machine = machine_of(self._ref, values_by_id[self._ref._moId])
        answer = self._answer(operation, machine)
        if answer and is_written:
            self._saw(machine)
        return answer if is_written else {}

    def _written(self, task: Any) -> bool:
        return self._ended(dict(together(self._session, [(task, TASK)], self.name)).get(task))

    def _ended(self, task: dict[str, Any] | None) -> bool:
        """Check whether vCenter wrote the values; true also if the task is no longer known."""
        state = task["info.state"] if task else "success"
        if task and state == "error":
            with translated(WRITING, self.name):
                raise task["info.error"]
        return bool(state == "success")

    def _answer(self, operation: str, machine: Machine) -> dict[str, Any]:
        if machine.power != "poweredOn":
            raise HypervisorError(
                f"the machine is not running, so the agent cannot answer {operation}.",
                name=self.name,
            )
        value = machine.values.get(PREFIX + ANSWER, "")
        if value in ("", SPENT):
            return {}
        try:
            return replies.decode(guestinfo.unwrap(value))
        except (wire.WireError, MalformedData) as error:
            raise replies.unusable(operation, self.name, error) from error


def _pauses(deadline: Deadline) -> Iterator[None]:
    """Pause between polls, each time a little longer."""
    pause = FIRST_LOOK
    while True:
        deadline.pause(pause)
        yield
        pause = min(pause * SLOWER, LONGEST_LOOK)
