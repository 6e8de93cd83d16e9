# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heads of requests, with the one header that clients send several times: BuildKit's."""

from __future__ import annotations

import re
from dataclasses import replace

from ..guest.security.reader.grammar import (
    HEAD_END,
    LINE_END,
    Refusal,
    Request,
    parse_request,
)

# A client of BuildKit names each method that the builder can call, in a header of its own.
_METHOD = re.compile(
    rb"x-docker-expose-session-grpc-method:[ \t]*[\w./-]{1,255}[ \t]*", re.IGNORECASE
)
MOST_METHODS = 256


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
