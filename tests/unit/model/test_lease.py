# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases and durations as values."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import FleetSpec, HostSpec, InvalidInput, LeaseSpec, SingleSpec
from stockyard.hypervisor.records import decode, encode
from stockyard.model.host import Identity
from stockyard.model.lease import Lease, holder_name, seconds
from tests.helpers.samples import HOST_KEY, HOSTILE, host_record

LEASE = Lease(str(uuid.uuid4()), "job-17", 100.0, 200.0, "1f")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("45m", 2700), ("2h", 7200), ("1d", 86400), ("30", 30), (30, 30)],
)
def test_durations_are_read(text: object, expected: float) -> None:
    assert seconds("duration", text) == expected


@pytest.mark.parametrize(
    "text", [*HOSTILE, "1w", "1.5h", "-1h", "1h30m", "١h", True, None, 1.5, "9" * 10]
)
def test_invalid_duration_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="duration"):
        seconds("duration", text)


@given(st.text() | st.integers() | st.none())
def test_any_text_is_a_duration_or_refused(text: object) -> None:
    grammar = re.fullmatch(r"([0-9]+)([smhd]?)", str(text)) if text is not None else None
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    with suppress(InvalidInput):
        duration = seconds("duration", text)
        assert grammar
        assert duration == int(grammar[1]) * units[grammar[2]]


def test_a_lease_ends_at_its_end() -> None:
    assert not LEASE.ended(199.9)
    assert LEASE.ended(200.0)


@pytest.mark.parametrize("holder", ["", " ", "a\nb", "a\0b", "a" * 101, None, 3])
def test_a_holder_is_a_line_of_text(holder: object) -> None:
    with pytest.raises(InvalidInput, match="holder"):
        holder_name(holder)


@pytest.mark.parametrize("duration", [0.0, -1.0, 0.5, 31 * 86400.0, float("inf"), float("nan")])
def test_a_duration_has_limits(duration: float) -> None:
    with pytest.raises(InvalidInput, match="duration"):
        LeaseSpec("me", "ci", duration=duration)


def test_lease_request_without_a_selection_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the request selects no hosts"):
        LeaseSpec("me")
    assert LeaseSpec("me", "ci", labels={"b": "2", "a": "1"}).title == "fleet ci with a=1, b=2"
    assert LeaseSpec("me", labels={"a": "1"}).title == "a=1"


@pytest.mark.parametrize("fleet", [text for text in HOSTILE if text])
def test_a_fleet_has_a_name(fleet: str) -> None:
    with pytest.raises(InvalidInput):
        LeaseSpec("me", fleet)


def test_a_record_keeps_its_lease_and_its_end() -> None:
    record = host_record(
        lease=LEASE, expires=300.0, identity=Identity("m", HOST_KEY, "1f", 2.0, leasable=True)
    )
    assert decode(encode(record)) == record


def test_record_without_a_lease_field_is_read() -> None:
    record = host_record(identity=Identity("m", HOST_KEY, "1f", 2.0))
    old = json.loads(encode(record))
    for field in ("lease", "expires"):
        del old[field]
    del old["identity"]["leasable"]
    assert decode(json.dumps(old)) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"holder": ""},
        {"until": "soon"},
        {"until": None},
        {"extra": 1},
        {"certificate": 5},
    ],
)
def test_a_record_with_half_a_lease_is_not_read(changes: dict[str, object]) -> None:
    data = json.loads(encode(host_record(lease=LEASE)))
    data["lease"] |= changes
    with pytest.raises(InvalidInput):
        decode(json.dumps(data))


def test_least_number_of_hosts_follows_count_and_min_ready() -> None:
    assert FleetSpec("ci", "base", 2, min_ready=3, max=5).least == 3
    assert FleetSpec("ci", "base", 4, min_ready=3).least == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"max": 1},
        {"min_ready": 3, "max": 2},
        {"min_ready": -1},
        {"max": -1},
        {"ttl": 59.0},
        {"ttl": -1.0},
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        replace(FleetSpec("ci", "base", 2), **changes)  # type: ignore[arg-type]


def test_a_port_that_is_bound_is_for_one_host() -> None:
    bound = HostSpec(ports=(8080,), bind="192.0.2.1")
    FleetSpec("ci", "base", 1, host=bound)
    for changes in ({"count": 2}, {"min_ready": 1}):
        with pytest.raises(InvalidInput, match="cannot all publish"):
            replace(FleetSpec("ci", "base", 1, host=HostSpec()), **changes, host=bound)  # type: ignore[arg-type]


def test_a_single_host_has_a_ttl_too() -> None:
    with pytest.raises(InvalidInput, match="ttl"):
        SingleSpec("alone", "base", ttl=1.0)
