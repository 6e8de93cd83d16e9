# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords of registries in calls. Pure.

The memory of the image host is copied into the machines of containers, so passwords must not get
there.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from ..guest.security.reader.grammar import HEAD_END, LINE_END, Request
from .calls import Call

# The headers with the login at one registry, and with those at several ones.
_LOGIN, _LOGINS = b"x-registry-auth", b"x-registry-config"
# The fields of a login that are no secret.
_PUBLIC = ("username", "serveraddress", "email")
AUTH = "/auth"


def has_password(call: Call) -> bool:
    """Return whether a call has the password of a registry. A header that cannot be read is treated
    as one with a password.
    """
    return call.path == AUTH or without_passwords(call.request) != call.request


def without_passwords(request: Request) -> Request:
    """Return a request without the headers that have passwords of registries."""
    lines = request.head.removesuffix(HEAD_END).split(LINE_END)
    remaining_lines = [line for line in lines if not _has_secret(line)]
    return replace(request, head=LINE_END.join(remaining_lines) + HEAD_END)


def _has_secret(line: bytes) -> bool:
    name, _colon, text = line.partition(b":")
    header = name.strip().lower()
    if header not in (_LOGIN, _LOGINS):
        return False
    value = _decoded(text.strip())
    logins = value.values() if header == _LOGINS and isinstance(value, dict) else [value]
    return any(map(_is_secret, logins))


def _decoded(text: bytes) -> Any:
    plain = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        content = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        return json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return text.decode("latin-1")


def _is_secret(login: Any) -> bool:
    if isinstance(login, dict):
        return any(value for field, value in login.items() if field.lower() not in _PUBLIC)
    return bool(login)
