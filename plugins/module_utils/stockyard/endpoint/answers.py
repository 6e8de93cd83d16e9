# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers about containers whose machine does not run, without starting the machine. Pure."""

from __future__ import annotations

from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, json_reply
from .snapshots import Facts, is_complete, is_running

# The calls that Docker refuses for a container that does not run, each with its words.
_REFUSED = {
    "kill": "Cannot kill container: {reference}: Container {id} is not running",
    "pause": "Container {id} is not running",
    "unpause": "Container {id} is not paused",
    "exec": "Container {id} is not running",
    "top": "Container {id} is not running",
    "resize": "Container {id} is not running",
}


def answer(call: Call, reference: str, facts: Facts) -> Reply | None:
    """Return the answer to a call about a container whose machine does not run; ``None`` if the
    call needs the machine.

    :raises Refusal: in Docker's words.
    """
    if not is_complete(facts):
        return None
    action = call.path.rpartition("/")[2]
    if call.method == "GET" and action == "json":
        return json_reply(facts)
    if is_running(facts):
        return None
    if action == "stop":
        return Reply(HTTPStatus.NOT_MODIFIED)
    if action == "wait" and call.value("condition") in ("", "not-running"):
        code = (facts.get("State") or {}).get("ExitCode") or 0
        return json_reply({"Error": None, "StatusCode": code})
    if action in _REFUSED:
        raise Refusal(
            _REFUSED[action].format(reference=reference, id=facts["Id"]), HTTPStatus.CONFLICT
        )
    return None
