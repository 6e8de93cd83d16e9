# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of containers from facts, and facts in records."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest

from stockyard.endpoint.container_list import is_listed, is_pruned, list_entry, status_text
from stockyard.endpoint.containers import Container
from stockyard.endpoint.events import container_event
from stockyard.endpoint.snapshots import (
    NEVER,
    PLACEMENT,
    Snapshots,
    end,
    is_complete,
    is_running,
    placement_of,
    unknown,
    unpack,
)
from stockyard.guest.security.reader.grammar import Refusal

ID = "c0ffee" * 10 + "0000"
CREATED = 1704164645.0  # 2024-01-02T03:04:05Z
FACTS: dict[str, Any] = {
    "Id": ID,
    "Name": "/web",
    "Image": "sha256:" + "ab" * 32,
    "Created": "2024-01-02T03:04:05.123456789Z",
    "Path": "sh",
    "Args": ["-c", "exit 3"],
    "State": {"Status": "exited", "ExitCode": 3, "FinishedAt": "2024-01-02T03:04:15Z"},
    "Config": {"Image": "busybox", "Labels": {"job": "7", "ci": ""}},
    "HostConfig": {"NetworkMode": "backend"},
    "NetworkSettings": {"Networks": {"backend": {"NetworkID": "0f0f"}}},
    "Mounts": [{"Name": "data", "Destination": "/data"}],
}


def test_an_entry_has_the_fields_of_dockers_list() -> None:
    entry = list_entry(FACTS, CREATED + 310)
    assert entry == {
        "Id": ID,
        "Names": ["/web"],
        "Image": "busybox",
        "ImageID": FACTS["Image"],
        "Command": "sh -c exit 3",
        "Created": int(CREATED),
        "Ports": [],
        "Labels": {"job": "7", "ci": ""},
        "State": "exited",
        "Status": "Exited (3) 5 minutes ago",
        "HostConfig": {"NetworkMode": "backend"},
        "NetworkSettings": {"Networks": {"backend": {"NetworkID": "0f0f"}}},
        "Mounts": FACTS["Mounts"],
    }


@pytest.mark.parametrize(
    ("state", "age", "text"),
    [
        ({"Status": "created"}, 0, "Created"),
        ({"Status": "exited", "ExitCode": 137, "FinishedAt": NEVER}, 0, "Exited (137)"),
        ({}, 0.5, "Exited (0) Less than a second ago"),
        ({}, 1, "Exited (0) 1 second ago"),
        ({}, 59, "Exited (0) 59 seconds ago"),
        ({}, 61, "Exited (0) About a minute ago"),
        ({}, 3700, "Exited (0) About an hour ago"),
        ({}, 47 * 3600, "Exited (0) 47 hours ago"),
        ({}, 3 * 86400, "Exited (0) 3 days ago"),
        ({}, 21 * 86400, "Exited (0) 3 weeks ago"),
        ({}, 90 * 86400, "Exited (0) 3 months ago"),
        ({}, 800 * 86400, "Exited (0) 2 years ago"),
    ],
)
def test_a_state_is_shown_in_dockers_words(state: dict[str, Any], age: float, text: str) -> None:
    finished = {"Status": "exited", "FinishedAt": "2024-01-02T03:04:05Z"}
    assert status_text(finished | state, CREATED + age) == text


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({}, True),
        ({"status": ["running", "exited"]}, True),
        ({"status": ["running"]}, False),
        ({"label": ["job=7", "ci"]}, True),
        ({"label": ["job=7", "other"]}, False),
        ({"name": ["^/web$"]}, True),
        ({"name": ["w.b"]}, True),
        ({"name": ["("]}, False),
        ({"id": [ID[:8]]}, True),
        ({"id": ["ee"]}, False),
        ({"exited": ["3"]}, True),
        ({"exited": ["0"]}, False),
        ({"ancestor": ["busybox"]}, True),
        ({"ancestor": ["busybox:latest"]}, True),
        ({"ancestor": ["abab"]}, True),
        ({"ancestor": ["debian"]}, False),
        ({"network": ["backend"]}, True),
        ({"network": ["0f"]}, True),
        ({"network": ["bridge"]}, False),
        ({"volume": ["/data"]}, True),
        ({"volume": ["cache"]}, False),
        ({"health": ["none"]}, True),
        ({"is-task": ["true"]}, False),
        ({"publish": ["80"]}, False),
    ],
)
def test_filters_match_as_in_docker(filters: dict[str, list[str]], matches: bool) -> None:
    assert is_listed(FACTS, filters, stopped_too=True) is matches


def test_stopped_containers_are_listed_on_request() -> None:
    assert not is_listed(FACTS, {}, stopped_too=False)
    assert is_listed(FACTS, {"status": ["exited"]}, stopped_too=False)


@pytest.mark.parametrize(
    ("filters", "pruned"),
    [
        ({}, True),
        ({"label": ["job"]}, True),
        ({"label!": ["job"]}, False),
        ({"until": ["1704164646"]}, True),
        ({"until": ["2024-01-01T00:00:00Z"]}, False),
        ({"until": ["1h"]}, True),
        ({"until": ["2h30m"]}, False),
    ],
)
def test_prune_has_dockers_filters(filters: dict[str, list[str]], pruned: bool) -> None:
    assert is_pruned(FACTS, filters, CREATED + 7200) is pruned


def test_a_prune_until_no_time_is_refused() -> None:
    with pytest.raises(Refusal, match="tomorrow"):
        is_pruned(FACTS, {"until": ["tomorrow"]}, CREATED)


def test_facts_survive_in_a_record() -> None:
    snapshots = Snapshots()
    snapshots.put(FACTS)
    container = Container(ID, "job", "machine", frozenset({"backend"}), frozenset({"data", "logs"}))
    text = snapshots.pack([container, Container("unknown", "other", "machine")])
    assert text.isprintable()
    facts, unread_facts = unpack(text)
    assert placement_of(facts) == (container.networks, container.volumes)
    assert {key: value for key, value in facts.items() if key != PLACEMENT} == FACTS | {
        "Name": "/job"
    }
    assert (unread_facts["Name"], is_complete(unread_facts), placement_of(unread_facts)) == (
        "/other",
        False,
        (frozenset(), frozenset()),
    )
    assert placement_of(FACTS) is None


@pytest.mark.parametrize("placement", [{}, {"Networks": [], "Volumes": 5}, {"Networks": "x"}, []])
def test_a_forged_placement_is_ignored(placement: Any) -> None:
    assert placement_of(FACTS | {PLACEMENT: placement}) is None


def test_a_record_that_is_too_deep_has_no_facts() -> None:
    deep = zlib.compress(b"[" * 100000)
    assert unpack(base64.b64encode(deep).decode()) == []


def test_facts_that_are_too_long_are_omitted() -> None:
    snapshots = Snapshots()
    noise = random.Random(1).randbytes(1 << 14).hex()  # noqa: S311  # not secret
    snapshots.put(FACTS | {"Noise": noise})
    (facts,) = unpack(
        snapshots.pack([Container(ID, "job", "machine", volumes=frozenset({"data"}))])
    )
    assert not is_complete(facts)
    assert placement_of(facts) == (frozenset(), frozenset({"data"}))


@pytest.mark.parametrize(
    "value",
    [
        "text",
        {},
        [1],
        [{"Id": ID}],
        [FACTS | {"Id": 7}],
        [FACTS | {"State": "exited"}],
        [FACTS | {"Config": {"Labels": ["job"]}}],
        [FACTS | {"NetworkSettings": {"Networks": "all"}}],
        [FACTS | {"Mounts": ["data"]}],
    ],
)
def test_facts_of_another_form_are_ignored(value: Any) -> None:
    packed = base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()
    assert unpack(packed) == []
    snapshots = Snapshots()
    for facts in value if isinstance(value, list) else [value]:
        snapshots.put(facts)
    assert snapshots.get(ID) is None


@pytest.mark.parametrize("text", ["", "?", "AAAA", base64.b64encode(b"{}").decode()])
def test_a_text_that_is_no_record_has_no_facts(text: str) -> None:
    assert unpack(text) == []


def test_events_change_the_state() -> None:
    snapshots = Snapshots()
    snapshots.put(unknown(ID, "web"))
    for action, status in (("start", "running"), ("pause", "paused"), ("unpause", "running")):
        snapshots.apply({"Action": action, "Actor": {"ID": ID}})
        assert (snapshots.get(ID) or {})["State"]["Status"] == status
    snapshots.apply({"Action": "die", "Actor": {"ID": ID, "Attributes": {"exitCode": "9"}}})
    facts = snapshots.get(ID) or {}
    assert (facts["State"]["ExitCode"], is_running(facts), is_complete(facts)) == (9, False, False)


def test_the_event_of_a_lost_container_is_like_dockers() -> None:
    facts = FACTS | {"State": {}}
    end(facts, 137, CREATED)
    event = container_event("die", facts, exitCode="137")
    assert event["Actor"]["Attributes"] == {
        "job": "7",
        "ci": "",
        "image": "busybox",
        "name": "web",
        "exitCode": "137",
    }
    assert (event["Type"], event["status"], event["id"]) == ("container", "die", ID)
    assert facts["State"]["FinishedAt"] == "2024-01-02T03:04:05Z"
