# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies of a guest's agent, as a controller reads them. Every kind of channel uses these
functions.
"""

from __future__ import annotations

from typing import Any

from ..errors import GuestError
from ..model import untrusted
from .agent import wire

LONGEST_ERROR = 500


def decode(line: bytes) -> dict[str, Any]:
    """Return the reply that a line contains.

    :raises MalformedData: if the line is not an object of bounded size and depth.
    """
    return untrusted.mapping(untrusted.parse(line, longest=wire.MAX_LINE), "the reply")


def checked(reply: dict[str, Any], operation: str, name: str) -> dict[str, Any]:
    """Return a reply if it reports success.

    :raises GuestError: if the reply reports an error, with the agent's message on one line.
    """
    if reply.get("ok") is not True:
        cause = untrusted.words(str(reply.get("error")), "error", LONGEST_ERROR)
        raise GuestError(f"the guest's agent could not {operation}.", name=name, cause=cause)
    return reply


def unusable(operation: str, name: str, cause: object) -> GuestError:
    """Return the error for a reply that cannot be used."""
    return GuestError(
        f"the guest's agent gave no usable answer to {operation}.", name=name, cause=str(cause)
    )
