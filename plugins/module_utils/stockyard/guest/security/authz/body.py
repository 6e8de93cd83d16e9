# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of requests, read as dockerd reads them. A text that Go and Python read differently is
refused.

Go's decoder matches the keys of a structure in any case and uses the last of two equal keys. The
keys of a map are exact. The decoder reads the first value of a body and ignores all later text.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


class Denied(Exception):
    """Refusal of a request; dockerd passes the text on to the client."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, in order and with duplicates: only the schema distinguishes
    a structure from a map.
    """


def decoded(encoded: object) -> Any:
    """Return the body of a request: base64 of JSON, as dockerd passes it on.

    :raises Denied: if the body is missing or can be read in more than one way.
    """
    if not isinstance(encoded, str) or not encoded:
        raise Denied(
            "the body of this request cannot be seen. Old engines show none of 1 MiB or more, none "
            "that is sent in "
            "chunks, and only application/json."
        )
    try:
        return parsed(base64.b64decode(encoded, validate=True).decode("utf-8", "strict"))
    except (ValueError, binascii.Error) as error:
        raise Denied(f"the body of this request is not plain JSON: {error}") from error


def parsed(text: str) -> Any:
    """Return the value of a JSON text; its objects are :class:`Pairs`.

    :raises Denied: if the text is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Denied(f"the body of this request is not plain JSON: {error}") from error


def folded(key: str) -> str:
    """Return a key in the form in which Go compares it: U+017F is an s, and U+212A a k."""
    return key.replace("\u017f", "s").replace("\u212a", "k").lower()


def is_zero(value: Any) -> bool:
    """Return whether a value is Go's value of an unset field: null, false, 0, or empty.

    A structure without set fields is zero. A list with items is never zero.
    """
    if isinstance(value, Pairs):
        return all(is_zero(item) for _key, item in value)
    return value is None or value is False or value in (0, "", [])


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
