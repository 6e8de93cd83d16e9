# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heads of requests, in the forms that clients send: BuildKit's repeat a header, and Jenkins'
end lines with LF.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from ..guest.security.reader.grammar import (
    HEAD_END,
    LINE_END,
    Refusal,
    Request,
    parse_request,
)
from ..guest.security.reader.streams import LIMIT, Stream

# A client of BuildKit names each method that the builder can call, in a header of its own.
_METHOD = re.compile(
    rb"x-docker-expose-session-grpc-method:[ \t]*[\w./-]{1,255}[ \t]*", re.IGNORECASE
)
MOST_METHODS = 256
_LF = b"\n"


async def read_head(reader: Stream, first_byte: bytes) -> bytes:
    """Return a complete head, whose lines end with CR LF if they all ended with LF alone.

    :raises asyncio.LimitOverrunError: if the head is too long.
    """
    lines = [first_byte + await reader.readuntil(_LF)]
    size = len(lines[0])
    while lines[-1] not in (LINE_END, _LF):
        lines.append(await reader.readuntil(_LF))
        size += len(lines[-1])
        if size > LIMIT:
            raise asyncio.LimitOverrunError("the head is too long", size)
    head = b"".join(lines)
    # The parser refuses a head with both line ends.
    return head if b"\r" in head else head.replace(_LF, LINE_END)


def parse_head(raw: bytes) -> Request:
    """Return the request in a complete head.

    :raises Refusal: if the head can be read in more than one way.
    """
    first, *lines = raw.removesuffix(HEAD_END).split(LINE_END)
    methods = [line for line in lines if _METHOD.fullmatch(line)]
    if len(methods) > MOST_METHODS:
        raise Refusal(f"The request names more than {MOST_METHODS} methods of BuildKit.")
    other_lines = [line for line in lines if not _METHOD.fullmatch(line)]
    request = parse_request(LINE_END.join([first, *other_lines]) + HEAD_END)
    head = LINE_END.join([request.head.removesuffix(HEAD_END), *methods]) + HEAD_END
    return replace(request, head=head)
