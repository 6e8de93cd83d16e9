# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of requests: the header that BuildKit's clients repeat, and no other one."""

from __future__ import annotations

import pytest

from stockyard.endpoint.heads import MOST_METHODS, parse_head
from stockyard.guest.security.reader.grammar import Refusal

METHOD = "X-Docker-Expose-Session-Grpc-Method"
SESSION = (
    "POST /session HTTP/1.1",
    "Host: docker",
    f"{METHOD}: /grpc.health.v1.Health/Check",
    "Connection: Upgrade",
    f"{METHOD.lower()}: /moby.filesync.v1.FileSync/DiffCopy",
    "Upgrade: h2c",
)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_each_method_of_buildkit_reaches_docker() -> None:
    request = parse_head(head(*SESSION))
    assert request.upgrade
    lines = request.head.decode().split("\r\n")
    assert lines[0] == SESSION[0]
    assert sorted(filter(None, lines)) == sorted(SESSION)
    assert request.head.endswith(b"\r\n\r\n")


def test_a_request_without_methods_is_read_as_before() -> None:
    assert parse_head(head("GET /info HTTP/1.1", "Host: docker")).head == head(
        "GET /info HTTP/1.1", "Host: docker"
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: other",),
        ("X-Docker-Expose-Session-Uuid: 1", "X-Docker-Expose-Session-Uuid: 2"),
        (f"{METHOD}: /one\nContent-Length: 3", f"{METHOD}: /two"),
        (f"{METHOD}: /one, /two", f"{METHOD}: /three, /four"),
        (f"{METHOD} : /one", f"{METHOD} : /two"),
        (f"{METHOD}: /one",) * (MOST_METHODS + 1),
    ],
)
def test_other_repeated_headers_are_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(Refusal):
        parse_head(head("GET /info HTTP/1.1", "Host: docker", *lines))
