# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of containers, as Docker in their machines inspected them last. They answer calls about
containers whose machine does not run.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import time
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .containers import Container
from .events import Event

Facts = dict[str, Any]
# The longest text that a record keeps, and the longest JSON in it.
LONGEST_TEXT, LONGEST_JSON = 1 << 14, 1 << 23
# The exit code of a process that was killed, and thus that of all processes of a killed machine.
KILLED = 137
RUNNING_STATES = ("running", "paused", "restarting")
_RESTARTING_POLICIES = ("always", "unless-stopped", "on-failure")
_EXIT_CODE = re.compile("[0-9]{1,9}")
# Objects in the facts, each with an object in it.
_PARTS = (
    ("State", "Health"),
    ("Config", "Labels"),
    ("HostConfig", "RestartPolicy"),
    ("NetworkSettings", "Networks"),
)
# The field of the endpoint's own knowledge in the facts of a record: those of Docker come from a
# machine, in which programs can change them.
PLACEMENT = "Placement"
# The largest depth of facts; Docker's have about ten levels.
_DEEPEST = 32
# Docker's time of something that did not happen.
NEVER = "0001-01-01T00:00:00Z"


class Snapshots:
    """The last known facts of each container, by its id."""

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}

    def put(self, facts: Facts) -> None:
        """Replace the facts of a container. Facts that have not the form of Docker's are ignored:
        programs in a machine can write them.
        """
        if is_sound(facts):
            self._facts[facts["Id"]] = facts

    def get(self, container_id: str) -> Facts | None:
        """Return the facts of a container, if they are known."""
        return self._facts.get(container_id)

    def remove(self, container_id: str) -> None:
        """Forget a container."""
        self._facts.pop(container_id, None)

    def apply(self, event: Event) -> None:
        """Change the state of a container as an event tells. Docker is asked for the rest later."""
        actor = event.get("Actor") or {}
        facts = self._facts.get(str(actor.get("ID", "")))
        if facts is None:
            return
        action = event.get("Action")
        state = facts["State"]
        if action in ("start", "unpause"):
            state |= {"Status": "running", "Running": True, "Paused": False, "ExitCode": 0}
        elif action == "pause":
            state |= {"Status": "paused", "Paused": True}
        elif action == "die":
            code = str((actor.get("Attributes") or {}).get("exitCode") or 0)
            end(facts, int(code) if _EXIT_CODE.fullmatch(code) else 0, time.time())

    def pack(self, containers: Iterable[Container]) -> str:
        """Return the facts of containers as text for a record, with their names and placement. If
        the facts are too long, they are omitted: programs in a machine can let them grow.
        """
        listed = list(containers)
        named = [unknown(container.id, container.name) for container in listed]
        complete = [self._facts.get(facts["Id"], facts) for facts in named]
        for candidates in (complete, named):
            placed = [
                {**facts, "Name": f"/{container.name}", PLACEMENT: _placement(container)}
                for facts, container in zip(candidates, listed, strict=True)
            ]
            packed = zlib.compress(json.dumps(placed, separators=(",", ":")).encode(), 9)
            text = base64.b64encode(packed).decode()
            if len(text) <= LONGEST_TEXT:
                return text
        return ""


def unpack(text: str) -> list[Facts]:
    """Return the facts in the text of a record. A text that cannot be read has none: Docker in the
    machine is asked instead.
    """
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text), LONGEST_JSON)
        listed = json.loads(content)
    except (ValueError, RecursionError, zlib.error):
        return []
    if not isinstance(listed, list):
        return []
    return [facts for facts in listed if is_sound(facts)]


def is_sound(facts: Any) -> bool:
    """Return whether facts have an id, and each part that the endpoint reads its type."""
    if not isinstance(facts, dict) or not isinstance(facts.get("Id"), str) or not facts["Id"]:
        return False
    mounts = facts.get("Mounts") or []
    return (
        _is_flat(facts)
        and isinstance(facts.get("State"), dict)
        and isinstance(facts.get("Args") or [], list)
        and isinstance(mounts, list)
        and all(isinstance(mount, dict) for mount in mounts)
        and all(
            isinstance(part := facts.get(name) or {}, dict)
            and isinstance(part.get(field) or {}, dict)
            for name, field in _PARTS
        )
        and all(
            isinstance(network or {}, dict)
            for network in ((facts.get("NetworkSettings") or {}).get("Networks") or {}).values()
        )
    )


def _is_flat(facts: Facts) -> bool:
    """Return whether facts are nested no deeper than those of Docker: they are copied."""
    level: list[Any] = [facts]
    for _depth in range(_DEEPEST):
        level = [
            part
            for value in level
            for part in (value.values() if isinstance(value, dict) else value)
            if isinstance(part, (dict, list))
        ]
    return not level


def _placement(container: Container) -> dict[str, list[str]]:
    return {"Networks": sorted(container.networks), "Volumes": sorted(container.volumes)}


def placement_of(facts: Facts) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the networks and the volumes that the endpoint noted with facts from a record;
    ``None`` for the facts of an earlier version, which have none.
    """
    noted = facts.get(PLACEMENT)
    if not isinstance(noted, dict):
        return None
    networks, volumes = noted.get("Networks"), noted.get("Volumes")
    if not isinstance(networks, list) or not isinstance(volumes, list):
        return None
    return frozenset(map(str, networks)), frozenset(map(str, volumes))


def unknown(container_id: str, name: str) -> Facts:
    """Return the facts of a container about which only its id and name are known."""
    state = {"Status": "running", "Running": True, "ExitCode": 0, "FinishedAt": NEVER}
    return {"Id": container_id, "Name": f"/{name}", "State": state}


def is_complete(facts: Facts) -> bool:
    """Return whether Docker wrote the facts, and not :func:`unknown`."""
    return "Config" in facts


def is_running(facts: Facts) -> bool:
    """Return whether the main process of a container exists."""
    return str((facts.get("State") or {}).get("Status")) in RUNNING_STATES


def removes_itself(facts: Facts) -> bool:
    """Return whether a container is removed when it exits."""
    return bool((facts.get("HostConfig") or {}).get("AutoRemove"))


def changes_alone(facts: Facts) -> bool:
    """Return whether the state of a container changes without a call: it runs, or it has exited and
    Docker is about to remove it.
    """
    status = (facts.get("State") or {}).get("Status")
    return is_running(facts) or (removes_itself(facts) and status in ("exited", "removing"))


def restarts(facts: Facts) -> bool:
    """Return whether Docker starts a container again if it starts itself."""
    policy = (facts.get("HostConfig") or {}).get("RestartPolicy") or {}
    return policy.get("Name") in _RESTARTING_POLICIES


def end(facts: Facts, exit_code: int, moment: float) -> None:
    """Change the state of a container to that after its exit.

    :param moment: the time of the exit, in seconds since the epoch.
    """
    finished = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    facts["State"] |= {
        "Status": "exited",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "Pid": 0,
        "ExitCode": exit_code,
        "FinishedAt": finished,
    }


def copied(facts: Facts) -> Facts:
    """Return an independent copy of facts."""
    return copy.deepcopy(facts)
