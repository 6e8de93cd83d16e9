# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of the list of containers, made from the facts of containers whose machine does not run.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .containers import is_id
from .snapshots import NEVER, Facts, is_running

Entry = dict[str, Any]
_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_UNITS = (
    (60, "second", 1),
    (60 * 60, "minute", 60),
    (48 * 3600, "hour", 3600),
    (14 * 86400, "day", 86400),
    (60 * 86400, "week", 7 * 86400),
    (2 * 365 * 86400, "month", 30 * 86400),
)


def list_entry(facts: Facts, now: float) -> Entry:
    """Return a container as the list of containers shows it.

    :param now: seconds since the epoch.
    """
    config, host = facts.get("Config") or {}, facts.get("HostConfig") or {}
    state = facts.get("State") or {}
    command = [str(facts.get("Path") or ""), *map(str, facts.get("Args") or ())]
    return {
        "Id": facts["Id"],
        "Names": [str(facts.get("Name") or "")],
        "Image": config.get("Image") or facts.get("Image") or "",
        "ImageID": facts.get("Image") or "",
        "Command": " ".join(filter(None, command)),
        "Created": int(seconds(str(facts.get("Created") or NEVER))),
        "Ports": [],
        "Labels": config.get("Labels") or {},
        "State": state.get("Status") or "exited",
        "Status": status_text(state, now),
        "HostConfig": {"NetworkMode": host.get("NetworkMode") or "default"},
        "NetworkSettings": {"Networks": _networks(facts)},
        "Mounts": facts.get("Mounts") or [],
    }


def sound_entries(value: Any) -> list[Entry]:
    """Return the entries of a list that have the form of Docker's: programs in a machine can write
    others.
    """
    return [entry for entry in value if _is_sound(entry)] if isinstance(value, list) else []


def entry_name(entry: Entry) -> str:
    """Return the name in an entry. A linked container has further names, such as ``/web/db``."""
    name = next(name for name in entry["Names"] if name.count("/") == 1)
    return str(name).removeprefix("/")


def _is_sound(entry: Any) -> bool:
    if not isinstance(entry, dict) or not is_id(entry.get("Id")):
        return False
    names, mounts = entry.get("Names"), entry.get("Mounts") or []
    settings = entry.get("NetworkSettings") or {}
    return (
        isinstance(entry.get("Created"), int)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and any(name.count("/") == 1 for name in names)
        and isinstance(mounts, list)
        and all(isinstance(mount, dict) for mount in mounts)
        and isinstance(settings, dict)
        and isinstance(settings.get("Networks") or {}, dict)
    )


def is_listed(facts: Facts, filters: dict[str, list[str]], *, stopped_too: bool) -> bool:
    """Return whether the list of containers includes a container.

    :param stopped_too: whether it includes containers that do not run.
    """
    if not (stopped_too or "status" in filters or is_running(facts)):
        return False
    return all(
        any(_FILTERS.get(key, _never)(facts, value) for value in values)
        if key != "label"
        else all(_has_label(facts, value) for value in values)
        for key, values in filters.items()
    )


def is_pruned(facts: Facts, filters: dict[str, list[str]], now: float) -> bool:
    """Return whether a prune removes a container.

    :param now: seconds since the epoch.
    :raises Refusal: if a time of the filters is no time.
    """
    labels = (facts.get("Config") or {}).get("Labels") or {}
    created = str(facts.get("Created") or NEVER)
    return not is_running(facts) and is_selected(labels, created, filters, now)


def is_selected(
    labels: Mapping[str, Any], created: str, filters: dict[str, list[str]], now: float
) -> bool:
    """Return whether a prune with these filters is about an object.

    :param created: Docker's time of its creation.
    :param now: seconds since the epoch.
    :raises Refusal: if a time of the filters is no time.
    """
    return (
        all(_is_label(labels, value) for value in filters.get("label", ()))
        and not any(_is_label(labels, value) for value in filters.get("label!", ()))
        and all(seconds(created) < _moment(value, now) for value in filters.get("until", ()))
    )


def status_text(state: dict[str, Any], now: float) -> str:
    """Return the state of a container in Docker's words, such as ``Exited (0) 5 minutes ago``."""
    if state.get("Status") == "created":
        return "Created"
    if is_running({"State": state}):
        return f"Up {_duration(now - seconds(str(state.get('StartedAt') or NEVER)))}"
    finished = seconds(str(state.get("FinishedAt") or NEVER))
    age = f" {_duration(now - finished)} ago" if finished else ""
    return f"Exited ({state.get('ExitCode') or 0}){age}"


def seconds(text: str) -> float:
    """Return one of Docker's times in seconds since the epoch; 0 for never."""
    try:
        return max(datetime.fromisoformat(text).timestamp(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def _moment(text: str, now: float) -> float:
    """Return a time that a client sent: seconds since the epoch, a date, or a duration that ends
    now.
    """
    try:
        return float(text)
    except ValueError:
        pass
    if text and (match := _DURATION.fullmatch(text)):
        hours, minutes, seconds_left = (float(part or 0) for part in match.groups())
        return now - hours * 3600 - minutes * 60 - seconds_left
    if time := seconds(text):
        return time
    raise Refusal(f"the time {text} is neither a number of seconds nor a date")


def _duration(length: float) -> str:
    """Return a duration as Docker's clients show it."""
    length = max(length, 0.0)
    if length < 1:
        return "Less than a second"
    if 60 <= length < 120:
        return "About a minute"
    if 3600 <= length < 5400:
        return "About an hour"
    for limit, name, size in _UNITS:
        if length < limit:
            number = int(length / size)
            return f"{number} {name}{'s' * (number != 1)}"
    return f"{int(length / (365 * 86400))} years"


def _networks(facts: Facts) -> dict[str, Any]:
    return (facts.get("NetworkSettings") or {}).get("Networks") or {}


def _has_label(facts: Facts, value: str) -> bool:
    return _is_label((facts.get("Config") or {}).get("Labels") or {}, value)


def _is_label(labels: Mapping[str, Any], value: str) -> bool:
    name, equals, content = value.partition("=")
    return name in labels and (not equals or labels[name] == content)


def _has_name(facts: Facts, value: str) -> bool:
    name = str(facts.get("Name") or "")
    try:
        # The slash before a name is part of it if the pattern has one.
        return bool(re.search(value, name) or re.search(value, name.removeprefix("/")))
    except re.error:
        return False


def _has_image(facts: Facts, value: str) -> bool:
    identifier = str(facts.get("Image") or "")
    name = str((facts.get("Config") or {}).get("Image") or "")
    names = (name, name if ":" in name.rpartition("/")[2] else f"{name}:latest")
    return (
        value in names
        or f"{value}:latest" in names
        or identifier.removeprefix("sha256:").startswith(value.removeprefix("sha256:"))
    )


def _has_volume(facts: Facts, value: str) -> bool:
    mounts = facts.get("Mounts") or ()
    return any(value in (mount.get("Name"), mount.get("Destination")) for mount in mounts)


def _has_network(facts: Facts, value: str) -> bool:
    return any(
        value == name or str((network or {}).get("NetworkID") or "").startswith(value)
        for name, network in _networks(facts).items()
    )


def _has_exit_code(facts: Facts, value: str) -> bool:
    state = facts.get("State") or {}
    never_started = state.get("Status") == "created"
    return not never_started and str(state.get("ExitCode") or 0) == value


def _never(_facts: Facts, _value: str) -> bool:
    return False


_FILTERS: dict[str, Callable[[Facts, str], bool]] = {
    "ancestor": _has_image,
    "exited": _has_exit_code,
    "health": lambda facts, value: (
        ((facts.get("State") or {}).get("Health") or {}).get("Status", "none") == value
    ),
    "id": lambda facts, value: str(facts["Id"]).startswith(value),
    "is-task": lambda _facts, value: value in ("false", "0"),
    "name": _has_name,
    "network": _has_network,
    "status": lambda facts, value: (facts.get("State") or {}).get("Status") == value,
    "volume": _has_volume,
}
