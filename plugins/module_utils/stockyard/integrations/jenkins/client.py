# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of a Jenkins controller's remote access API, and the meaning of its errors.

It needs no plugin on the controller, except for nodes with the launcher ``ssh``. Addresses and
answers are those of https://www.jenkins.io/doc/book/using/remote-access-api/ and of
hudson.model.ComputerSet and hudson.model.Computer.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ...clock import Deadline
from ...errors import Conflict, ControllerError, InvalidInput, NotFound
from ...model import naming, untrusted
from ...web import Answer, Bounds, Connection
from .node import FIELDS, Node, node

ANSWER_WITHIN = 30.0
LONGEST_ANSWER = 1 << 25
_ARGUMENT = re.compile(r"<argument>([0-9a-f]{32,128})</argument>")


class Controller:
    """Client of one controller as one user.

    :param url: the controller's URL, with its path if it has one.
    :param user: the user; empty for an anonymous client.
    :param token: the user's API token or password.
    :param ca_path: PEM certificates of the authorities to trust instead of the system's.
    """

    def __init__(self, url: str, user: str = "", token: str = "", ca_path: str = "") -> None:
        self._parts = urlsplit(naming.line("controller url", url, 2000).rstrip("/"))
        if (
            self._parts.scheme not in ("http", "https")
            or not self._parts.hostname
            or self._parts.username
        ):
            raise InvalidInput(
                f"{naming.shown(url)} is not the URL of a controller.",
                remedy="set https://NAME or https://NAME/PATH; user and token are separate options",
            )
        naming.line("controller token", token, 1000)
        login = base64.b64encode(
            f"{naming.line('controller user', user)}:{token}".encode()
        ).decode()
        # The client reads the controller's error messages, so that they must be in English.
        self._headers = {
            "Accept-Language": "en",
            **({"Authorization": f"Basic {login}"} if user else {}),
        }
        self._tls = _tls(ca_path) if self._parts.scheme == "https" else None
        self._port = _port(url, self._parts)

    @property
    def title(self) -> str:
        """Return the controller's name for messages."""
        return f"controller {self._parts.hostname}"

    def nodes(self) -> list[Node]:
        """Return all nodes of the controller, regardless of their creator."""
        answer = self._get(f"/computer/api/json?tree=computer[{FIELDS}]")
        try:
            listing = untrusted.mapping(
                untrusted.parse(answer.body, longest=LONGEST_ANSWER), "the answer"
            )
            return [
                node(entry)
                for entry in untrusted.items(
                    untrusted.item(listing, "computer", "the answer"), "computer"
                )
            ]
        except untrusted.MalformedData as error:
            raise self._nonsense("its list of nodes", error) from error

    def create(self, name: str, form: dict[str, str]) -> None:
        """Create a node.

        :raises Conflict: if a node with this name exists.
        """
        try:
            self._post(
                "/computer/doCreateItem",
                urlencode(form).encode(),
                "application/x-www-form-urlencoded",
            )
        except ControllerError as error:
            if "already exists" not in error.cause:
                raise
            raise Conflict(
                "the controller already has a node of this name.",
                name=f"node {name}",
                remedy="run again",
            ) from error

    def config(self, name: str) -> bytes:
        """Return the configuration of a node as XML."""
        return self._get(f"{_path(name)}/config.xml").body

    def configure(self, name: str, xml: bytes) -> None:
        """Replace the configuration of a node."""
        self._post(f"{_path(name)}/config.xml", xml, "application/xml")

    def delete(self, name: str) -> None:
        """Delete a node."""
        self._post(f"{_path(name)}/doDelete")

    def hold(self, name: str, reason: str) -> None:
        """Take a node out of service. Running builds continue to their end.

        The alternative, toggleOffline, would return a node to service if another user took it out
        of service at the same time.
        """
        self._post(f"{_path(name)}/changeOfflineCause?{urlencode({'offlineMessage': reason})}")

    def resume(self, name: str) -> None:
        """Return a node to service. The controller has no other call for it than toggleOffline."""
        self._post(f"{_path(name)}/toggleOffline")

    def secret(self, name: str) -> str:
        """Return the secret with which an inbound agent authenticates as this node."""
        match = _ARGUMENT.search(
            self._get(f"{_path(name)}/jenkins-agent.jnlp").body.decode(errors="replace")
        )
        if not match:
            raise self._nonsense(f"the secret of node {name}", "the answer contains no secret")
        return match[1]

    def _get(self, path: str) -> Answer:
        return self._checked("GET", path, self._send("GET", path))

    def _post(
        self, path: str, body: bytes = b"", kind: str = "application/x-www-form-urlencoded"
    ) -> None:
        answer = self._send("POST", path, body, kind)
        # A request with a password instead of a token must contain a crumb from the same session.
        if answer.status == 403 and b"crumb" in answer.body and self._fetch_crumb():
            answer = self._send("POST", path, body, kind)
        self._checked("POST", path, answer)

    def _fetch_crumb(self) -> bool:
        answer = self._send("GET", "/crumbIssuer/api/json")
        if answer.status != 200:
            return False
        try:
            issued = untrusted.mapping(untrusted.parse(answer.body), "the crumb")
            field, crumb = (
                untrusted.line(untrusted.item(issued, key, "the crumb"), key)
                for key in ("crumbRequestField", "crumb")
            )
        except untrusted.MalformedData as error:
            raise self._nonsense("its crumb", error) from error
        self._headers[field] = crumb
        cookies = [
            cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie") or ()
        ]
        if cookies:
            self._headers["Cookie"] = "; ".join(cookies)
        return True

    def _send(self, method: str, path: str, body: bytes = b"", kind: str = "") -> Answer:
        headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
        bounds = Bounds(Deadline(ANSWER_WITHIN), LONGEST_ANSWER)
        connection = Connection(
            str(self._parts.hostname), self._port, bounds=bounds, context=self._tls
        )
        try:
            return connection.exchange(method, self._parts.path + path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise ControllerError(
                "the controller does not answer.",
                name=self.title,
                cause=str(error) or type(error).__name__,
                remedy="check that the controller runs, that this machine can reach it, and "
                "that its certificate is trusted",
            ) from error

    def _checked(self, method: str, path: str, answer: Answer) -> Answer:
        """Return the answer if it is a success. The controller answers an accepted form with a
        redirect, whose target does not matter.
        """
        location = answer.headers.get("Location") or ""
        needs_login = "/login" in location or "/securityRealm/" in location
        if answer.status == 200 or (
            method == "POST" and answer.status in (201, 302, 303) and not needs_login
        ):
            return answer
        target = path.partition("?")[0]
        if answer.status == 404:
            raise NotFound(
                f"the controller does not have {target}.",
                name=self.title,
                remedy="check that the URL is the URL of a Jenkins controller",
            )
        if answer.status in (401, 403) or needs_login:
            raise ControllerError(
                f"the controller does not allow this user to access {target}.",
                name=self.title,
                cause=_error_text(answer),
                remedy="set a user and an API token, with the permissions that the page on "
                "Jenkins lists",
            )
        raise ControllerError(
            f"the controller answered {target} with status {answer.status}.",
            name=self.title,
            cause=_error_text(answer),
            remedy="read the controller's log",
        )

    def _nonsense(self, subject: str, reason: object) -> ControllerError:
        return ControllerError(
            f"{subject} is not valid.",
            name=self.title,
            cause=str(reason),
            remedy="check that the URL is the URL of a controller",
        )


def _path(name: str) -> str:
    return f"/computer/{quote(name, safe='')}"


def _port(url: str, parts: Any) -> int | None:
    try:
        port: int | None = parts.port
    except ValueError as error:
        raise InvalidInput(
            f"{naming.shown(url)}: the port is not valid.", remedy="set a number up to 65535"
        ) from error
    return port


def _tls(ca_path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except OSError as error:
        raise InvalidInput(
            "the certificates cannot be read.",
            name=ca_path,
            cause=str(error),
            remedy="set a file of PEM certificates",
        ) from error


def _error_text(answer: Answer) -> str:
    """Return the text of an error page without its markup."""
    text = answer.body[:8192].decode(errors="replace")
    page = text[max(text.find("<h1"), 0) :]
    words = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return (answer.headers.get("X-Error") or " ".join(words.split()))[:300]
