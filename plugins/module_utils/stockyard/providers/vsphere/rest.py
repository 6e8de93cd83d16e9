# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCenter's REST interface for content libraries: JSON over HTTPS, with a separate session."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
from typing import Any

from ...clock import Deadline
from ...errors import ConnectionFailed, HypervisorError, NotFound
from ...model import untrusted
from ...model.login import Login
from ...model.naming import shown
from ...web import Bounds, Connection
from .faults import LOST, lost
from .place import Place

SESSION = "/com/vmware/cis/session"
HEADER = "vmware-api-session-id"
# Deploying a machine is one request, answered at its end.
PATIENCE = 1800.0
LONGEST = 1 << 22


class Rest:
    """One session, for use in a ``with`` statement."""

    def __init__(self, place: Place, login: Login, context: ssl.SSLContext) -> None:
        self.place = place
        self._login = login
        self._context = context
        self._session = ""

    def __enter__(self) -> Rest:
        pair = f"{self._login.username}:{self._login.password}".encode()
        self._session = str(
            self._sent(
                "POST", SESSION, {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
            )
        )
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(HypervisorError):
            self.request("DELETE", SESSION)

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one request and return its result.

        :raises NotFound: if the object does not exist.
        :raises HypervisorError: for every other failure.
        """
        return self._sent(method, path, {HEADER: self._session}, body)

    def _sent(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None
    ) -> Any:
        bounds = Bounds(Deadline(PATIENCE), LONGEST)
        connection = Connection(
            self.place.host, self.place.port, bounds=bounds, context=self._context
        )
        content = json.dumps(body).encode() if body is not None else b""
        try:
            answer = connection.exchange(
                method, f"/rest{path}", content, {"Content-Type": "application/json", **headers}
            )
        except LOST as error:
            raise lost("send a request to vCenter", self.place.host, error) from error
        return _value(self.place.host, answer.status, answer.body)


def _value(host: str, status: int, text: bytes) -> Any:
    """Return the value of an answer."""
    try:
        body = untrusted.parse(text or b"null", longest=LONGEST)
    except untrusted.MalformedData:
        body = None
    value = body.get("value") if isinstance(body, dict) else None
    if status < http.client.BAD_REQUEST:
        return value
    cause = f"HTTP {status}: {shown(messages(value))}"
    if status == http.client.UNAUTHORIZED:
        remedy = "correct username or password"
        raise ConnectionFailed(
            "vCenter refuses this user and password.", name=host, cause=cause, remedy=remedy
        )
    if status == http.client.NOT_FOUND:
        raise NotFound(
            "vCenter does not have this object.", name=host, cause=cause, remedy="check the name"
        )
    raise HypervisorError(
        "vCenter refused the request.",
        name=host,
        cause=cause,
        remedy="check the user's privileges on content libraries",
    )


def messages(value: Any) -> str:
    """Return the messages in an answer of vCenter, at any depth."""
    if isinstance(value, dict):
        message = value.get("default_message")
        return (
            str(message)
            if message
            else "; ".join(filter(None, (messages(entry) for entry in value.values())))
        )
    return "; ".join(filter(None, map(messages, value))) if isinstance(value, list) else ""
