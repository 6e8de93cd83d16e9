# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies of a guest's agent, as a controller reads them: every kind of channel takes them through
these functions.
"""

from __future__ import annotations

from typing import Any

from ..errors import GuestError
from ..model import untrusted
from .agent import wire

LONGEST_ERROR = 500


def decode(line: bytes) -> dict[str, Any]:
    """Return a line as a reply.

    :raises MalformedData: for anything but an object of bounded size and depth.
    """
    return untrusted.mapping(untrusted.parse(line, longest=wire.MAX_LINE), "the reply")


def checked(reply: dict[str, Any], operation: str, name: str) -> dict[str, Any]:
    """Return a reply that reports success.

    :raises GuestError: for any other, with the agent's words on one line.
    """
    if reply.get("ok") is not True:
        cause = untrusted.words(str(reply.get("error")), "error", LONGEST_ERROR)
        raise GuestError(f"the guest's agent could not {operation}.", name=name, cause=cause)
    return reply


def unusable(operation: str, name: str, cause: object) -> GuestError:
    """Return the error for a reply that is none."""
    return GuestError(
        f"the guest's agent gave no usable answer to {operation}.", name=name, cause=str(cause)
    )
