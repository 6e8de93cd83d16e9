# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies as dockerd reads them, and not as Python would: what the two read differently is refused.

Go's decoder takes the keys of a structure whatever their case, and of two that are the same the last one. It reads the
first value of a body and nothing behind it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any


class Denied(Exception):
    """A request that is refused; the text is told to whoever made it."""


def decoded(encoded: object) -> dict[str, Any]:
    """The body of a request as dockerd passes it on: base64 of JSON.

    :raises Denied: when it is not there, though it matters, or cannot be read in one way only.
    """
    if not isinstance(encoded, str) or not encoded:
        raise Denied(
            "the body of this request cannot be seen. Old engines show none of 1 MiB or more, none that is sent in "
            "chunks, and only application/json."
        )
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8", "strict")
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise Denied(f"the body of this request is not plain JSON: {error}") from error
    if not isinstance(found, dict):
        raise Denied("the body of this request is no object")
    return found


def folded(key: str) -> str:
    """A key as Go compares it: U+017F is an s, and U+212A a k."""
    return key.replace("\u017f", "s").replace("\u212a", "k").lower()


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if folded(key) in found:
            raise Denied(f"the body of this request has {key!a} twice")
        found[folded(key)] = value
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
