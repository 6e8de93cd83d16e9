# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: their syntax, and the names of objects on the hypervisor.

A name on the hypervisor is ``owner.tenant.name`` for a host,
``owner.tenant.template.name.generation`` for a template. No part can contain a dot, so two objects
never share a name.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from ..errors import InvalidInput

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# apt reads a hyphen at the end as "remove it"; no package of Debian has such a name.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+.]")
_CPU_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PLATFORM_FACT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:~-]{0,126}")
_CPU_FEATURE = re.compile(r"!?[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PACKAGE_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]{0,254}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_DIGEST = re.compile(r"[0-9a-z]{1,128}")
# A digest, or on vSphere a machine and its version: 4b0e…@2026-01-31T12:00:00.000000Z. It can be a
# directory's name.
_IMAGE = re.compile(r"[0-9A-Za-z][0-9A-Za-z@:.+_-]{0,254}")
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")
_SERIAL = re.compile(r"[0-9a-f]{0,64}")
# Seconds since the epoch that a record can hold: the year 5138.
LAST_MOMENT = 1e11
VERSION_MAX = 1 << 53
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
FLEET_NAME_MAX = 40
_BOOLEANS = {
    **dict.fromkeys(("yes", "true", "on", "1", "y", "t"), True),
    **dict.fromkeys(("no", "false", "off", "0", "n", "f"), False),
}


def boolean_of(word: str) -> bool | None:
    """Return the boolean that a word stands for in Ansible; ``None`` for any other word."""
    return _BOOLEANS.get(word.strip().lower())


def name(kind: str, value: Any, longest: int = 63) -> str:
    """Check a name: lower-case ASCII letters, digits and inner hyphens (RFC 1123), at most
    ``longest``.

    :raises InvalidInput: if the value is anything else.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > longest:
        raise InvalidInput(
            f"{shown(value)} is not a valid {kind} name.",
            remedy=f"use 1 to {longest} lower-case letters, digits and hyphens; no hyphen first or "
            f"last",
        )
    return value


def user(value: Any) -> str:
    """Check a login name."""
    return _matching(
        "user name", _USER, value, "use lower-case letters, digits, _ and -, at most 32"
    )


def package(value: Any) -> str:
    """Check the name of a Debian package (Debian Policy 5.6.1)."""
    return _matching(
        "Debian package name", _PACKAGE, value, "write a package name without version or options"
    )


def cpu_model(value: Any) -> str:
    """Check the name of a CPU model."""
    return _matching("CPU model", _CPU_MODEL, value, "write a name of `virsh cpu-models x86_64`")


def cpu_feature(value: Any) -> str:
    """Check the name of a CPU feature, with an exclamation mark if it is absent."""
    return _matching("CPU feature", _CPU_FEATURE, value, "write the name that libvirt has for it")


def platform_fact(fact: str, value: Any) -> str:
    """Check a version or a name of a platform; empty if it is not known."""
    if value == "":
        return ""
    return _matching(fact, _PLATFORM_FACT, value, "write a version or a name")


def package_version(value: Any) -> str:
    """Check the version of a Debian package (Debian Policy 5.6.12)."""
    return _matching(
        "version of a Debian package", _PACKAGE_VERSION, value, "write a version such as 1:2.47.3-1"
    )


def identifier(value: Any) -> str:
    """Check a uuid in its usual form, because directories are named by it."""
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise InvalidInput(f"{shown(value)} is not a uuid.")


def mac(value: Any) -> str:
    """Check a MAC address."""
    return _matching("MAC address", _MAC, value, "write six pairs of lower-case hexadecimal digits")


def address(value: Any) -> str:
    """Check an IPv4 address."""
    try:
        if isinstance(value, str):
            return str(ipaddress.IPv4Address(value))
    except ValueError:
        pass
    raise InvalidInput(
        f"{shown(value)} is not an IPv4 address.",
        remedy="write the address as four numbers and dots",
    )


def labels(value: Any) -> dict[str, str]:
    """Check labels: a mapping of keys to strings of at most 255 printable characters."""
    if not isinstance(value, dict):
        raise InvalidInput(
            f"labels are {shown(value)}, not a mapping.", remedy="write labels as key: value pairs"
        )
    checked_labels: dict[str, str] = {}
    for key, text in value.items():
        _matching("label key", _LABEL_KEY, key, "use letters, digits and . _ / -, at most 63")
        checked_labels[key] = line(f"label {key}", text)
    return checked_labels


def line(subject: str, value: Any, longest: int = 255) -> str:
    """Check a single line of printable text."""
    if not isinstance(value, str):
        raise InvalidInput(
            f"{subject}: {shown(value)} is not text.", remedy="put the value in quotes"
        )
    if len(value) > longest or not value.isprintable():
        raise InvalidInput(
            f"{subject}: {shown(value)} is not a line of at most {longest} printable characters.",
            remedy="remove line breaks and control characters",
        )
    return value


def whole(subject: str, value: Any, low: int, high: int) -> int:
    """Check a whole number between ``low`` and ``high``, both allowed."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(
            f"{subject}: {shown(value)} is not a whole number from {low} to {high}.",
            remedy=f"set a number from {low} to {high}",
        )
    return value


def seconds(subject: str, value: Any, low: float, high: float) -> float:
    """Check a number of seconds between ``low`` and ``high``, both allowed."""
    # Not "value < low": nan would pass.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidInput(
            f"{subject}: {shown(value)} is not a time.",
            remedy=f"set {low:g} to {high:g} seconds, as a number",
        )
    return float(value)


def moment(subject: str, value: Any) -> float:
    """Check a moment in seconds since the epoch."""
    return seconds(subject, value, 0, LAST_MOMENT)


def digest(subject: str, value: Any) -> str:
    """Check a digest or the name of a generation: lower-case letters and digits."""
    return _matching(subject, _DIGEST, value, "check that the record was not changed by hand")


def image(value: Any) -> str:
    """Check the name of an image."""
    return _matching("image", _IMAGE, value, "check that the record was not changed by hand")


def serial(subject: str, value: Any) -> str:
    """Check the serial number of a certificate, in hex; empty before there is one."""
    return _matching(subject, _SERIAL, value, "check that the record was not changed by hand")


def prose(subject: str, value: Any, longest: int = 8192) -> str:
    """Check text of several lines, such as a reason: no control characters but line breaks and
    tabs.
    """
    if (
        not isinstance(value, str)
        or len(value) > longest
        or not re.sub(r"[\n\t]", "", value).isprintable()
    ):
        raise InvalidInput(
            f"{subject}: {shown(value)} is not text.", remedy="remove control characters"
        )
    return value


def duration(subject: str, value: Any) -> float:
    """Return a length of time in seconds from its form in options: a number of seconds, or a number
    with ``s``, ``m``, ``h``, ``d`` or ``w``.
    """
    match = _DURATION.fullmatch(str(value)) if isinstance(value, (str, int, float)) else None
    if not match or isinstance(value, bool):
        raise InvalidInput(
            f"{subject}: {shown(value)} is not a length of time.",
            remedy="write a duration such as 90s, 45m, 12h or 7d",
        )
    return float(match[1]) * _UNITS[match[2]]


def choice(subject: str, value: Any, allowed: Iterable[str]) -> str:
    """Check that a word is one of the allowed words."""
    words = tuple(allowed)
    if value not in words:
        raise InvalidInput(
            f"{subject}: {shown(value)} is not known.", remedy=f"choose one of {', '.join(words)}"
        )
    return str(value)


def check_choices(spec: Any, prefix: str = "") -> None:
    """Check the fields of a dataclass that have ``choices`` in their metadata.

    Modules offer the same choices.

    :param prefix: text before the field's name in the error.
    """
    for item in fields(spec):
        value = getattr(spec, item.name)
        if "choices" in item.metadata and (value is not None or item.default is not None):
            choice(f"{prefix}{item.name}", value, item.metadata["choices"])


def shown(value: Any) -> str:
    """Return a value in a form for error messages: quoted, escaped, cut to 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def ordinal_name(fleet: str, ordinal: int) -> str:
    """Return the name of a counted host of a fleet."""
    return f"{fleet}-{ordinal}"


def lowest_free(fleet: str, existing: Iterable[str], count: int) -> list[str]:
    """Return the first ``count`` host names of a fleet that are free."""
    used_names, ordinal = set(existing), 1
    names: list[str] = []
    while len(names) < count:
        candidate = ordinal_name(fleet, ordinal)
        if candidate not in used_names:
            names.append(candidate)
        ordinal += 1
    return names


def _matching(subject: str, pattern: re.Pattern[str], value: Any, remedy: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidInput(f"{shown(value)} is not a valid {subject}.", remedy=remedy)
    return value


def signer_key(text: str) -> str:
    """Check the public key of a signer: 64 hexadecimal digits."""
    if not _PUBLIC_KEY.fullmatch(text):
        raise InvalidInput(
            f"{shown(text)} is not a public key.",
            remedy="write the 64 digits that a push returns as key",
        )
    return text
