# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the agent in a guest, from the controller's side: two values of the machine, as the
guest has them.

:mod:`...guest.agent.guestinfo` says what they are and what may go over them.
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

# Seconds between looks: at once at first, then seldom. A look is one small call.
FIRST_LOOK, LONGEST_LOOK, SLOWER = 0.03, 1.0, 1.3
LOOKED_AT = (
    "name",
    "config.uuid",
    "config.changeVersion",
    "runtime.powerState",
    option(RECORD),
    option(PREFIX + ANSWER),
)
WRITING = "speak to the guest"
IDLE = {PREFIX + REQUEST: SPENT, PREFIX + ANSWER: SPENT}


class GuestinfoChannel:
    """Speaks to one agent, one request at a time.

    A look for the answer is a look at the task that brings the question, too: nobody has to wait
    for that before.

    :param ref: the machine.
    :param saw: told how the machine was when it had answered.
    """

    def __init__(
        self, session: Session, ref: Any, name: str, saw: Callable[[Machine], None]
    ) -> None:
        self.name = name
        self._session = session
        self._ref = ref
        self._saw = saw
        self._left = ""

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message, wait for its own answer."""
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
        """Hang up. What was asked and not taken is overwritten; an answer holds nothing but what is
        public.
        """
        if self._left == REQUEST:
            task, deadline = self._write(IDLE), Deadline(guestinfo.TOOL_PATIENCE)
            pauses = _pauses(deadline)
            while not self._written(task):
                deadline.check(
                    WRITING, name=self.name, remedy="look at the task in vCenter, then run again"
                )
                next(pauses)

    def _write(self, values: dict[str, str]) -> Any:
        """Ask vCenter to write; returns its task."""
        spec = specs.reconfigure(values)
        return self._session.tell(WRITING, self.name, lambda: self._ref.ReconfigVM_Task(spec))

    def _reply(self, operation: str, number: str, task: Any, deadline: Deadline) -> dict[str, Any]:
        pauses = _pauses(deadline)
        while True:
            next(pauses)
            found = self._look(operation, task)
            if found.get("id") == number:
                return found
            if deadline.passed():
                raise DeadlineExceeded(
                    f"the guest's agent did not answer {operation} within {deadline.seconds:g} s.",
                    name=self.name,
                    remedy="look at the guest's console in vCenter; it needs open-vm-tools and the "
                    "agent",
                )

    def _look(self, operation: str, task: Any) -> dict[str, Any]:
        """The answer that is there when the question was written; nothing before."""
        read = together(self._session, [(self._ref, LOOKED_AT), (task, TASK)], self.name)
        found = {ref._moId: values for ref, values in read}
        if self._ref._moId not in found:
            raise GuestError(f"the guest went away before it answered {operation}.", name=self.name)
        ended = self._ended(found.get(task._moId))
        now = machine_of(self._ref, found[self._ref._moId])
        answer = self._answer(operation, now)
        if answer and ended:
            self._saw(now)
        return answer if ended else {}

    def _written(self, task: Any) -> bool:
        return self._ended(dict(together(self._session, [(task, TASK)], self.name)).get(task))

    def _ended(self, task: dict[str, Any] | None) -> bool:
        """Whether vCenter has written; also when it does not know the task any more."""
        state = task["info.state"] if task else "success"
        if task and state == "error":
            with translated(WRITING, self.name):
                raise task["info.error"]
        return bool(state == "success")

    def _answer(self, operation: str, now: Machine) -> dict[str, Any]:
        if now.power != "poweredOn":
            raise HypervisorError(
                f"its machine does not run: nobody answers {operation}.", name=self.name
            )
        value = now.values.get(PREFIX + ANSWER, "")
        if value in ("", SPENT):
            return {}
        try:
            return replies.decode(guestinfo.unwrap(value))
        except (wire.WireError, MalformedData) as error:
            raise replies.unusable(operation, self.name, error) from error


def _pauses(deadline: Deadline) -> Iterator[None]:
    """Pauses between looks, each a little longer."""
    pause = FIRST_LOOK
    while True:
        deadline.pause(pause)
        yield
        pause = min(pause * SLOWER, LONGEST_LOOK)
