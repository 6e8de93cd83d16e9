# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format between controller and agent: one JSON object a line, UTF-8, of
bounded length.
"""

from __future__ import annotations

import json
from typing import Any

PORT_NAME = "org.stockyard.agent.0"
MAX_LINE = 256 * 1024


class WireError(ValueError):
    """The other side sent something that is not a message."""


def encode(message: dict[str, Any]) -> bytes:
    """One message as a line."""
    line = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise WireError(f"a message of {len(line)} bytes is over the limit of {MAX_LINE}")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """One line as a message."""
    try:
        message = json.loads(line.decode("utf-8", "strict"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {error}") from error
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


class Lines:
    """Cuts a stream of bytes into lines, and refuses one that never ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; return the lines that are complete, without empty ones."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in whole):
            self._rest = b""
            raise WireError(f"a line is longer than {MAX_LINE} bytes")
        return [line for line in whole if line.strip()]

    def reset(self) -> None:
        """Forget a half line: the other side hung up."""
        self._rest = b""
