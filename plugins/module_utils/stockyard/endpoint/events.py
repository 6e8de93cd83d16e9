# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of all machines in one stream, with Docker's filters."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .calls import parse_json

Event = dict[str, Any]
# As many as dockerd keeps.
RECENT = 256
# Events that wait for one slow reader, which loses the stream after that.
WAITING = 4096


class EventBus:
    """The recent events, and the readers of further ones."""

    def __init__(self) -> None:
        self.recent: deque[Event] = deque(maxlen=RECENT)
        self._readers: set[asyncio.Queue[Event | None]] = set()

    def publish(self, event: Event) -> None:
        """Pass an event to all readers."""
        self.recent.append(event)
        for reader in list(self._readers):
            if reader.qsize() < WAITING:
                reader.put_nowait(event)
            else:
                reader.put_nowait(None)
                self._readers.discard(reader)

    @contextmanager
    def reading(self) -> Iterator[asyncio.Queue[Event | None]]:
        """Return a queue of the events from now on. ``None`` is the end of a reader that is too
        slow.
        """
        reader: asyncio.Queue[Event | None] = asyncio.Queue()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)


def is_sound(value: Any) -> bool:
    """Return whether a value has the form of Docker's events: programs in a machine can write
    others.
    """
    if not isinstance(value, dict):
        return False
    actor = value.get("Actor") or {}
    return (
        isinstance(actor, dict)
        and isinstance(actor.get("ID", ""), str)
        and isinstance(actor.get("Attributes") or {}, dict)
        and isinstance(value.get("time") or 0, int)
    )


def engine_event(kind: str, action: str, identifier: str, attributes: dict[str, str]) -> Event:
    """Return an event of the endpoint itself, in Docker's form."""
    nanoseconds = time.time_ns()
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": identifier, "Attributes": attributes},
        "scope": "local",
        "time": nanoseconds // 1_000_000_000,
        "timeNano": nanoseconds,
    }


def container_event(action: str, facts: dict[str, Any], **attributes: str) -> Event:
    """Return an event of a container whose machine cannot send it.

    :param facts: the facts of the container.
    """
    config = facts.get("Config") or {}
    image = str(config.get("Image") or "")
    name = str(facts.get("Name") or "").removeprefix("/")
    actor = {**(config.get("Labels") or {}), "image": image, "name": name, **attributes}
    event = engine_event("container", action, str(facts["Id"]), actor)
    return {"status": action, "id": facts["Id"], "from": image, **event}


def parse_filters(text: str) -> dict[str, list[str]]:
    """Return filters from both of Docker's spellings: lists of values, or sets.

    :raises Refusal: if they are neither.
    """
    if not text:
        return {}
    try:
        filters = parse_json(text)
        return {str(key): [str(value) for value in values] for key, values in filters.items()}
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise Refusal("invalid filter") from error


def moment(event: Event) -> float:
    """Return the time of an event, in seconds since the epoch."""
    nanoseconds = event.get("timeNano")
    return nanoseconds / 1e9 if isinstance(nanoseconds, int) else float(event.get("time") or 0)


def matches(event: Event, filters: dict[str, list[str]]) -> bool:
    """Return whether an event meets each filter."""
    return all(
        # All labels, but one of several other values.
        (all if key == "label" else any)(_meets(event, key, value) for value in values)
        for key, values in filters.items()
    )


def _meets(event: Event, key: str, value: str) -> bool:
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    if key in ("type", "scope"):
        field = {"type": "Type", "scope": "scope"}[key]
        return bool(event.get(field, "local") == value)
    if key == "event":
        # `exec_create` stands for every `exec_create: COMMAND`.
        action = str(event.get("Action", ""))
        return value in (action, action.partition(":")[0])
    if key == "label":
        name, equals, content = value.partition("=")
        return name in attributes and (not equals or attributes[name] == content)
    identifier, name = str(actor.get("ID", "")), str(attributes.get("name", ""))
    if key == "image":
        is_image = event.get("Type") == "image"
        names = (identifier, name) if is_image else (str(attributes.get("image", "")),)
        return any(value in (text, text.rpartition(":")[0]) for text in names)
    is_object = event.get("Type") == key
    return is_object and (value in (name, identifier) or identifier.startswith(value))
