# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated guest: the real identity agent works in a directory, over the real wire format."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError
from ...guest import replies
from ...guest.agent import wire
from ...guest.agent.apply import Identity
from ...guest.agent.main import Agent
from ...guest.agent.volumes import Volumes
from ...model.untrusted import MalformedData
from .volumes import FolderDisks

ENGINE = "memory"
UNHEARD = ("prepare", "warm-up", "unit-failures", "docker-probe", "change-containers")
# A guest's clock is right unless a test wrote a number into this file of its disk: the seconds that
# the clock is ahead.
AHEAD = "run/clock-ahead"


class NoEffects:
    """Running system on which the agent's actions have no effect. Random bytes come from the kernel
    of this machine.
    """

    def reseed(self, entropy: bytes) -> None:
        return

    def draw(self) -> dict[str, str]:
        return {"kernel": os.urandom(32).hex()}

    def random(self, count: int) -> bytes:
        return os.urandom(count)

    def set_clock(self, seconds: float) -> None:
        return

    def set_hostname(self, name: str) -> None:
        return

    def set_mac(self, interface: str, mac: str) -> str:
        return mac

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        return

    def own(self, path: str, user: str) -> None:
        return

    def prioritize(self, on: bool) -> None:
        return

    def open_gate(self) -> None:
        return

    def reload_front(self, cut: bool) -> None:
        return

    def replace_front(self) -> None:
        return

    def kill_logins(self, user: str) -> None:
        return

    def accepts_ssh(self) -> bool:
        return False

    def wait_for_ssh(self) -> None:
        return

    def sync(self) -> None:
        return

    def trim(self) -> None:
        return

    def restart_journal(self) -> None:
        return

    def restart_engine(self) -> None:
        return

    def set_way_out(self, on: bool) -> None:
        return

    def take_down(self, interface: str) -> None:
        return

    def end_sessions(self, user: str, interface: str) -> None:
        return


Plugged = Callable[[], dict[str, Path]]


def boot(root: Path, plugged: Plugged = dict) -> None:
    """Start a guest from its disk: the content of its memory is lost, and the agent resumes the
    identity on the disk.

    :param plugged: the volumes that are plugged into the guest.
    """
    shutil.rmtree(root / "run", ignore_errors=True)
    FolderDisks(root, plugged).forget()
    _agent(root, plugged).resume()


def _agent(root: Path, plugged: Plugged) -> Agent:
    return Agent(Identity(str(root), NoEffects()), Volumes(str(root), FolderDisks(root, plugged)))


class AgentChannel:
    """Channel to the agent of one guest.

    :param root: the guest's disk, a directory.
    :param running: whether the guest runs; called before every request.
    :param plugged: the volumes that are plugged into the guest.
    """

    def __init__(
        self, name: str, root: Path, running: Callable[[], bool], plugged: Plugged = dict
    ) -> None:
        self.name = name
        self._agent = _agent(root, plugged)
        self._clock = root / AHEAD
        self._running = running
        self._numbers = itertools.count(1)

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send a message and return the reply."""
        operation = str(message.get("op"))
        if deadline.passed():
            raise DeadlineExceeded(
                f"the time ended before the request {operation} to the guest's agent.",
                name=self.name,
            )
        if not self._running():
            raise GuestError(
                f"the guest does not run, so it cannot answer {operation}.", name=self.name
            )
        try:
            line = wire.encode({**message, "id": next(self._numbers)})
            reply = replies.decode(wire.encode(self._answer(operation, line)))
        except (wire.WireError, MalformedData) as error:
            raise replies.unusable(operation, self.name, error) from error
        return replies.checked(reply, operation, self.name)

    def close(self) -> None:
        """Close the channel."""

    def _answer(self, operation: str, line: bytes) -> dict[str, Any]:
        # This guest has no dockerd and no TLS front, so that there is nothing to warm up.
        if operation in UNHEARD:
            return {"ok": True, "engine": ENGINE}
        answer = self._agent.answer(line)
        if operation == "set-clock" and answer["ok"]:
            self._clock.unlink(missing_ok=True)
        if "ahead" in answer:
            # The controller's clock decides, because a test can set it by hand.
            answer["ahead"] = (
                float(self._clock.read_text(encoding="ascii")) if self._clock.exists() else 0.0
            )
        return answer
