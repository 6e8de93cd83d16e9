# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format between controller and agent: one JSON object per line, in UTF-8, of bounded
length.
"""

from __future__ import annotations

import json
from typing import Any

PORT_NAME = "org.stockyard.agent.0"
MAX_LINE = 256 * 1024


class WireError(ValueError):
    """Error of data that is not a message."""


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as a line.

    :raises WireError: if the message is too long.
    """
    line = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise WireError(f"a message of {len(line)} bytes is over the limit of {MAX_LINE}")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """Return the message that a line contains.

    :raises WireError: if the line is not a message.
    """
    try:
        message = json.loads(line.decode("utf-8", "strict"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {error}") from error
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


class Lines:
    """Splitter of a byte stream into lines of bounded length."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the complete lines, except for empty ones.

        :raises WireError: if a line is too long.
        """
        *complete, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE or any(len(line) > MAX_LINE for line in complete):
            self._rest = b""
            raise WireError(f"a line is longer than {MAX_LINE} bytes")
        return [line for line in complete if line.strip()]

    def reset(self) -> None:
        """Discard an incomplete line, because the controller hung up."""
        self._rest = b""
