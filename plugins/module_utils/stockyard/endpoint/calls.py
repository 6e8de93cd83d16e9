# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the Docker API, and replies that the endpoint writes itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from ..guest.security.reader.grammar import HEAD_END, LINE_END, Refusal, Request

JSON = "application/json"
# The oldest version of the API that the endpoint answers.
OLDEST_VERSION = (1, 24)
_HALF = re.compile("[\ud800-\udfff]")
_VERSIONED = re.compile(r"/v(\d{1,4})\.(\d{1,4})(/.*)")


@dataclass(frozen=True)
class Call:
    """One call of a client.

    :param path: the path without the version, decoded.
    :param query: the values of each parameter.
    :param version: the version of the API in the path, or that of the newest dockerd.
    :param target: the path and the query as the client sent them, without the version.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    version: tuple[int, int]
    target: str
    request: Request

    def value(self, name: str, default: str = "") -> str:
        """Return the first value of a parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Return whether a parameter is true, in Docker's spelling."""
        return self.value(name).strip().lower() not in ("", "0", "no", "false", "none")

    @property
    def prefix(self) -> str:
        """Return the version as the first part of a path."""
        return f"/v{_text(self.version)}"


@dataclass(frozen=True)
class Reply:
    """A complete reply.

    :param headers: further headers.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the decoded body.

        :raises Refusal: if it is not JSON.
        """
        try:
            return parse_json(self.body)
        except (ValueError, RecursionError) as error:
            raise Refusal(
                "The answer of Docker in the machine is not JSON.", HTTPStatus.BAD_GATEWAY
            ) from error


def decode(text: bytes | str) -> Any:
    """Return the value of JSON that a client sent.

    :raises Refusal: if it is not JSON.
    """
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"invalid JSON: {error}") from error


def parse_json(text: bytes | str) -> Any:
    """Return the value of JSON as Go reads it: bytes that are no UTF-8, and halves of a surrogate
    pair, become U+FFFD. Python would keep halves, and fail when it encodes them.

    :raises ValueError: if it is not JSON.
    """
    plain_text = text.decode(errors="replace") if isinstance(text, bytes) else text
    value = json.loads(plain_text)
    return _without_halves(value) if "\\ud" in plain_text.lower() else value


def _without_halves(value: Any) -> Any:
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    return _HALF.sub("\ufffd", value) if isinstance(value, str) else value


def json_reply(value: Any, status: int = HTTPStatus.OK) -> Reply:
    """Return a reply with a JSON body, as dockerd writes it."""
    return Reply(status, json.dumps(value, separators=(",", ":")).encode() + b"\n")


def error_reply(refusal: Refusal) -> Reply:
    """Return the reply for an error, in Docker's form."""
    return json_reply({"message": str(refusal)}, refusal.status)


def parse_call(request: Request, newest: tuple[int, int]) -> Call:
    """Return the call of a request.

    :param newest: the newest version of the API that every dockerd of this endpoint answers.
    :raises Refusal: if the version of the API is outside the range.
    """
    method, target, _protocol = request.head.partition(LINE_END)[0].decode("latin-1").split(" ")
    version = newest
    if match := _VERSIONED.fullmatch(target):
        version, target = (int(match[1]), int(match[2])), match[3]
        check_version(version, newest)
    # A path that begins with two slashes is no host name.
    parts = urlsplit(f"http://endpoint{target}")
    query = parse_qs(parts.query, keep_blank_values=True)
    return Call(method, unquote(parts.path), query, version, target, request)


def in_path(reference: str) -> str:
    """Return a reference of an image as a part of a path. Only what must be quoted is quoted: the
    authorization plugin of strict profiles refuses other ways to write a path.
    """
    return quote(reference, safe="/:@")


def fetches_archive(call: Call) -> bool:
    """Return whether a call lets Docker download an archive for an image."""
    sources = call.query.get("fromSrc", [])
    return call.path == "/images/create" and any(source not in ("", "-") for source in sources)


def with_query(call: Call, **values: str) -> Call:
    """Return a call with other values of parameters."""
    query = call.query | {name: [value] for name, value in values.items()}
    target = f"{urlsplit(call.target).path}?{urlencode(query, doseq=True)}"
    return _with_target(replace(call, query=query), target)


def with_path(call: Call, path: str) -> Call:
    """Return a call with another path."""
    _path, mark, query = call.target.partition("?")
    return _with_target(replace(call, path=path), in_path(path) + mark + query)


def _with_target(call: Call, target: str) -> Call:
    _line, separator, headers = call.request.head.partition(LINE_END)
    head = f"{call.method} {call.prefix}{target} HTTP/1.1".encode() + separator + headers
    return replace(call, target=target, request=replace(call.request, head=head))


def check_version(version: tuple[int, int], newest: tuple[int, int]) -> None:
    """Refuse a version of the API outside the range, in Docker's words."""
    number = _text(version)
    if version > newest:
        raise Refusal(
            f"client version {number} is too new. Maximum supported API version is {_text(newest)}"
        )
    if version < OLDEST_VERSION:
        raise Refusal(
            f"client version {number} is too old. Minimum supported API version is "
            f"{_text(OLDEST_VERSION)}, please upgrade your client to a newer version"
        )


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def encode_reply(reply: Reply, headers: dict[str, str], *, close: bool, bodiless: bool) -> bytes:
    """Return the bytes of a reply.

    :param headers: the headers of every reply of this endpoint.
    :param bodiless: whether the body is omitted, as in the reply to HEAD.
    """
    status = HTTPStatus(reply.status)
    fields = dict(headers)
    if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        fields |= {"Content-Type": reply.content_type, "Content-Length": str(len(reply.body))}
    fields |= reply.headers
    if close:
        fields["Connection"] = "close"
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return LINE_END.join(map(str.encode, lines)) + HEAD_END + (b"" if bodiless else reply.body)
