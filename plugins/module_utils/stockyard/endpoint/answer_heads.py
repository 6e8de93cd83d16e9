# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heads of answers from machines. A client uses one connection for calls to several machines,
so each answer must end where the endpoint sees its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import struct
import termios
from http import HTTPStatus

from ..guest.security.reader.grammar import HEAD_END, LINE_END, Refusal
from ..guest.security.reader.streams import Peer

# The name of a header, and one with the length of a body.
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_LENGTH = re.compile(rb"content-length:", re.IGNORECASE)
_PLAIN_LENGTH = re.compile(rb"content-length:[ \t]*[0-9]{1,18}[ \t]*", re.IGNORECASE)
# The start of a head before the final one.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2} ")
_SWITCHING = re.compile(rb"HTTP/1\.[01] 101 ")
# Seconds for a client to read the head before a stream, and between two looks.
HEAD_READ, LOOK = 1.0, 0.001


def check_head(raw: bytes) -> None:
    """Check that clients read the head of an answer as the endpoint does.

    :raises ValueError: if they can read it in another way.
    """
    lines = raw.removesuffix(HEAD_END).split(LINE_END)
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    if (
        not raw.count(b"\n") == raw.count(b"\r") == raw.count(LINE_END)
        or not all(_FIELD.fullmatch(name) for name in names)
        or names.count(b"content-length") + names.count(b"transfer-encoding") > 1
        or any(_LENGTH.match(line) and not _PLAIN_LENGTH.fullmatch(line) for line in lines)
    ):
        raise ValueError("the head of the answer can be read in more than one way")


class AnswerCheck:
    """The check of the bytes that a client gets as the answer to one call.

    :param timeout: the deadline of the first byte.
    """

    def __init__(self, timeout: asyncio.Timeout, client: Peer) -> None:
        self._timeout = timeout
        self._client = client
        self._is_head = True
        self._begins_stream = False

    async def observe(self, data: bytes) -> None:
        """Check a part of the answer. A head comes alone.

        :raises Refusal: if clients can read a head in more than one way.
        """
        self._timeout.reschedule(None)
        if not self._is_head:
            if self._begins_stream:
                self._begins_stream = False
                await head_is_read(self._client)
            return
        self._is_head = bool(_INTERIM.match(data))
        self._begins_stream = bool(_SWITCHING.match(data))
        try:
            check_head(data)
        except ValueError as error:
            raise Refusal(
                "Docker in the machine answered in a form that is not Docker's.",
                HTTPStatus.BAD_GATEWAY,
            ) from error


async def head_is_read(client: Peer) -> None:
    """Wait until a client at a Unix socket has read the head before its stream begins.

    docker-py reads the head with a buffer and the stream without, and loses the start of a stream
    that arrives together with the head.
    """
    connection = client.writer.get_extra_info("socket")
    if connection is None or not isinstance(client.writer.get_extra_info("sockname"), str):
        return
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(HEAD_READ):
            while _unread(connection.fileno()):
                await asyncio.sleep(LOOK)


def _unread(descriptor: int) -> int:
    """Return the number of bytes, with overhead, that the other end of a socket has not read."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return int(count)
