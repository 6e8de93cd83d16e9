# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's channel on vSphere: two values that controller and guest can read and write.

The controller writes ``guestinfo.stockyard.request``, the guest ``guestinfo.stockyard.answer``.
Each contains one message of :mod:`.wire` in base64, or a placeholder. A request is new if it
differs from the last request; its answer has the same ``id``. Every process in the guest can read
both values while they exist. The only secrets in them are keys of volumes, which :mod:`.key_wrap`
encrypts, and entropy, which is mixed into the kernel's own and is useless afterwards: the agent
overwrites a request as soon as it has read the request, and the controller overwrites an answer
with its next request. Answers are public. Values cannot be deleted.
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
# The placeholder for a spent value: an empty value would look like an unset key.
SPENT = "-"
# open-vm-tools truncates a message at 64 KiB (GUESTMSG_MAX_IN_SIZE); base64 makes four bytes of
# three.
MAX_VALUE = 60 * 1024
TOOL = "vmware-rpctool"
TOOL_PATIENCE = 60.0
VENDOR = "/sys/class/dmi/id/sys_vendor"
# Seconds between two reads: soon for ATTENTIVE seconds after a request, later when idle.
SOON, LATER = 0.1, 2.0
ATTENTIVE = 120.0


class Rpc(Protocol):
    """The hypervisor as the guest sees it."""

    def get(self, name: str) -> str:
        """Return one of stockyard's values, empty if it is unset."""

    def set(self, name: str, value: str) -> None:
        """Write one of stockyard's values."""

    def freeze(self) -> None:
        """Freeze this machine. The call returns in each fork, and never in the source."""


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
        process = subprocess.run(
            [TOOL, command], check=True, capture_output=True, timeout=TOOL_PATIENCE
        )
        return process.stdout.decode("utf-8", "replace")


class Answers(Protocol):
    """The agent as the channel sees it."""

    restart_due: bool

    def answer(self, line: bytes) -> dict[str, Any]:
        """Return the answer to one line."""


class Guestinfo:
    """Server of the two values, one step at a time."""

    def __init__(self, agent: Answers, rpc: Rpc) -> None:
        self.agent = agent
        self.rpc = rpc
        self._taken = ""

    def step(self) -> bool:
        """Answer the current request if it is new. Return whether it was new."""
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
    """Return a message as a value.

    :raises WireError: if the message is too long.
    """
    value = base64.b64encode(wire.encode(message)).decode()
    if len(value) > MAX_VALUE:
        raise wire.WireError(
            f"a message of {len(value)} bytes is over guestinfo's limit of {MAX_VALUE}"
        )
    return value


def unpack(value: str) -> dict[str, Any]:
    """Return the message that a value contains.

    :raises WireError: if the value is not a message.
    """
    return wire.decode(unwrap(value))


def unwrap(value: str) -> bytes:
    """Return the line that a value contains.

    :raises WireError: if the value is too long or is not base64.
    """
    if len(value) > MAX_VALUE:
        raise wire.WireError(f"a value is longer than {MAX_VALUE} bytes")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wire.WireError(f"not a message in base64: {error}") from error


def serve(agent: Answers, rpc: Rpc) -> None:
    """Serve until the agent's process must be replaced. Errors of the tool are ignored."""
    server, last_request = Guestinfo(agent, rpc), time.monotonic()
    while not agent.restart_due:
        answered = False
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answered = server.step()
        current_time = time.monotonic()
        last_request = current_time if answered else last_request
        if not answered:
            time.sleep(SOON if current_time - last_request < ATTENTIVE else LATER)


def runs_on_vmware() -> bool:
    """Return whether this guest runs on VMware."""
    try:
        with open(VENDOR, encoding="ascii", errors="replace") as handle:
            return handle.read().startswith("VMware")
    except OSError:
        return False


def _read(value: str) -> tuple[dict[str, Any], bytes]:
    """Return the message of a request, empty if it cannot be read, and the line for the agent."""
    try:
        message = unpack(value)
        return message, wire.encode(message)
    except wire.WireError as error:
        # The agent reports the error, as it does for any other line.
        return {}, str(error).encode()
