# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's line to its controller on vSphere: two values that both sides can read and write.

``guestinfo.stockyard.request`` is the controller's, ``guestinfo.stockyard.answer`` the guest's.
Each holds one message of :mod:`.wire`, in base64, or nothing of worth. A request is new when its
``id`` is not the one that was taken last; its answer has the same ``id``. Every process in the
guest can read both, for as long as they are there, so nothing secret goes over them but entropy,
which is mixed into the kernel's own and of no use once it was: the agent overwrites a request as
soon as it has taken it, and the controller an answer with its next request. Answers are public.
Values cannot be deleted.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import subprocess
import time
from typing import Any, Protocol

from . import wire

PREFIX = "guestinfo.stockyard."
REQUEST, ANSWER = "request", "answer"
# What is written over a spent value: base64 of nothing would be taken for an unset key.
SPENT = "-"
# open-vm-tools cuts a message off at 64 KiB (GUESTMSG_MAX_IN_SIZE); base64 makes four of three.
MAX_VALUE = 60 * 1024
TOOL = "vmware-rpctool"
TOOL_PATIENCE = 60.0
VENDOR = "/sys/class/dmi/id/sys_vendor"
# Seconds between looks: often while somebody speaks to this guest, seldom while nobody does.
SOON, LATER = 0.1, 2.0
ATTENTIVE = 120.0


class Rpc(Protocol):
    """What the guest asks of its hypervisor."""

    def get(self, name: str) -> str:
        """A value of ours; empty when there is none."""

    def set(self, name: str, value: str) -> None:
        """Write a value of ours."""

    def freeze(self) -> None:
        """Freeze this machine to be cloned. It returns in each clone, and never in the source."""


class Rpctool:
    """``vmware-rpctool`` of open-vm-tools."""

    def get(self, name: str) -> str:
        try:
            return self._run(f"info-get {PREFIX}{name}").strip()
        except subprocess.CalledProcessError:
            return ""

    def set(self, name: str, value: str) -> None:
        self._run(f"info-set {PREFIX}{name} {value}")

    def freeze(self) -> None:
        subprocess.run([TOOL, "instantclone.freeze"], check=True, capture_output=True)

    def _run(self, command: str) -> str:
        done = subprocess.run(
            [TOOL, command], check=True, capture_output=True, timeout=TOOL_PATIENCE
        )
        return done.stdout.decode("utf-8", "replace")


class Answers(Protocol):
    """Who answers: the agent."""

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line."""


class Guestinfo:
    """Serves the two values, one step at a time."""

    def __init__(self, agent: Answers, rpc: Rpc) -> None:
        self.agent = agent
        self.rpc = rpc
        self._taken = ""

    def step(self) -> bool:
        """Answer the request that is there, if it is a new one; says whether it was."""
        value = self.rpc.get(REQUEST)
        if not value or value in (SPENT, self._taken):
            return False
        self._taken = value
        self.rpc.set(REQUEST, SPENT)
        request, line = _read(value)
        self.rpc.set(ANSWER, self._answered(request, line))
        if request.get("op") == "freeze":
            self.rpc.freeze()
        return True

    def _answered(self, request: dict[str, Any], line: bytes) -> str:
        if request.get("op") == "freeze":
            return pack({"id": request.get("id"), "ok": True})
        answer = self.agent.answer(line)
        try:
            return pack(answer)
        except wire.WireError as error:
            return pack({"id": request.get("id"), "ok": False, "error": str(error)})


def pack(message: dict[str, Any]) -> str:
    """A message as a value.

    :raises WireError: when it is too long for one.
    """
    value = base64.b64encode(wire.encode(message)).decode()
    if len(value) > MAX_VALUE:
        raise wire.WireError(
            f"a message of {len(value)} bytes is over guestinfo's limit of {MAX_VALUE}"
        )
    return value


def unpack(value: str) -> dict[str, Any]:
    """A value as a message.

    :raises WireError: when it is none.
    """
    return wire.decode(unwrap(value))


def unwrap(value: str) -> bytes:
    """Return the line that a value holds.

    :raises WireError: when it is too long, or not base64.
    """
    if len(value) > MAX_VALUE:
        raise wire.WireError(f"a value is longer than {MAX_VALUE} bytes")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wire.WireError(f"not a message in base64: {error}") from error


def serve(agent: Answers, rpc: Rpc) -> None:
    """Serve for ever. Whatever the tool says, the agent lives on."""
    line, heard = Guestinfo(agent, rpc), time.monotonic()
    while True:
        taken = False
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            taken = line.step()
        now = time.monotonic()
        heard = now if taken else heard
        if not taken:
            time.sleep(SOON if now - heard < ATTENTIVE else LATER)


def is_here() -> bool:
    """Whether this guest runs on VMware."""
    try:
        with open(VENDOR, encoding="ascii", errors="replace") as handle:
            return handle.read().startswith("VMware")
    except OSError:
        return False


def _read(value: str) -> tuple[dict[str, Any], bytes]:
    """What a request says, as far as it can be read, and the line that the agent is given."""
    try:
        message = unpack(value)
        return message, wire.encode(message)
    except wire.WireError as error:
        # The agent says what is wrong with it, as it does with any other line.
        return {}, str(error).encode()
