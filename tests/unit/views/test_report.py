# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard as a page and as metrics: all of it is there, and what people wrote in it stays text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stockyard import (
    DockerAccess,
    FleetSpec,
    HostSpec,
    InvalidInput,
    LeaseInfo,
    LeaseSpec,
    MemoryUse,
    PoolSpec,
    RefusedDestination,
    SingleSpec,
    VolumeSpec,
    Yard,
)
from stockyard.model.observation import UnreadableObject
from stockyard.views.html import TABLES, page
from stockyard.views.metrics import METRICS, metrics
from stockyard.views.snapshot import Snapshot, take_snapshot
from tests.helpers.faulty_provider import FaultyProvider

HOSTILE = "</td><script>alert(1)</script>\"'&{{ 7*7 }}{% x %}"
EMPTY = Snapshot(hypervisor="memory:///x", owner="me", moment=1.0)
LEASE = LeaseInfo(
    id="1",
    holder="me",
    taken=1.0,
    until=5.5,
    ended=False,
    certificate="ab",
    host="ci-1",
    fleet="ci",
    tenant="default",
    address="127.0.0.1",
    docker=DockerAccess("tcp://127.0.0.1:2376", {}, "", ""),
)


class Page(HTMLParser):
    """A page as a browser parses it: its elements, and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            name
            for name, _value in attrs
            if name in ("src", "href", "srcset") or name.startswith("on")
        ]
        self._open = tag == "td"
        if self._open:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data


@pytest.fixture
def busy(yard: Yard) -> Yard:
    yard.pools.apply(PoolSpec("fast", hosts=5))
    yard.volumes.apply(VolumeSpec("cache", size_gib=2))
    yard.fleets.apply(
        FleetSpec("ci", "base", count=3, labels={"note": HOSTILE}, host=HostSpec(pool="fast"))
    )
    yard.hosts.apply(SingleSpec("builder", "base"))
    yard.leases.ensure(LeaseSpec(HOSTILE, fleet="ci"))
    return yard


def test_a_page_has_everything(busy: Yard) -> None:
    shown_page = Page(page(take_snapshot(busy.context)))
    assert {"ci-1", "ci-2", "ci-3", "builder", "base", "held", "free", "none", "3 of 3"} <= set(
        shown_page.cells
    )
    assert {"fast", "3 of 5", "cache"} <= set(shown_page.cells)
    assert HOSTILE in shown_page.cells  # the holder
    assert f"note={HOSTILE}" in shown_page.cells


def test_a_page_shows_refused_destinations(busy: Yard) -> None:
    snapshot = take_snapshot(busy.context)
    refused = tuple(RefusedDestination(f"name-{n}", "tls", 443, 9 - n) for n in range(7))
    hosts = [replace(host, info=replace(host.info, refused=refused)) for host in snapshot.hosts]
    shown_page = Page(page(replace(snapshot, hosts=tuple(hosts))))
    notes = [cell for cell in shown_page.cells if "refused" in cell]
    assert len(notes) == len(hosts)
    assert "name-0:443 (tls, 9 times), name-1:443 (tls, 8 times)" in notes[0]
    assert "name-5" not in notes[0], "the most frequent ones only"


def test_a_page_is_self_contained(busy: Yard) -> None:
    text = page(take_snapshot(busy.context))
    shown_page = Page(text)
    assert "script" not in shown_page.tags
    assert shown_page.links == []
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


@given(st.text(max_size=60))
def test_labels_are_escaped_in_the_report(written: str) -> None:
    text = page(replace(EMPTY, strangers=(UnreadableObject(written, written),)))
    assert Page(text).tags.count("td") == 2
    assert Page(text).tags.count("script") == 0


def test_a_page_of_an_empty_yard_has_a_table_for_each_kind() -> None:
    assert all(table.title in page(EMPTY) for table in TABLES)
    assert {table.key for table in TABLES} == set(EMPTY.figures)


def test_a_survey_reads_the_hypervisor_once(busy: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.calls.clear()
    take_snapshot(busy.context)
    assert hypervisor.calls["observe"] == 1
    assert set(hypervisor.calls) <= {"observe", "facts", "channel"}


def test_nothing_secret_is_shown(busy: Yard) -> None:
    snapshot = take_snapshot(busy.context)
    assert "PRIVATE" not in page(snapshot) + metrics(snapshot) + str(snapshot)


def parsed(snapshot: Snapshot) -> dict[str, list[Any]]:
    return {
        family.name: family.samples for family in text_string_to_metric_families(metrics(snapshot))
    }


def test_metrics_are_valid_for_prometheus(busy: Yard) -> None:
    parsed_page = parsed(take_snapshot(busy.context))
    assert set(parsed_page) == {f"stockyard_{metric.name}" for metric in METRICS}
    (total,) = parsed_page["stockyard_fleet_hosts"]
    assert total.value == 3.0
    assert total.labels == {
        "owner": "stockyard",
        "hypervisor": busy.context.provider.uri,
        "tenant": "default",
        "name": "ci",
        "template": "base",
    }
    (lease,) = parsed_page["stockyard_lease_until_timestamp_seconds"]
    assert lease.labels["holder"] == HOSTILE
    assert lease.value == busy.leases.list()[0].until
    assert len(parsed_page["stockyard_host_ready"]) == 4


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=60))
def test_labels_are_escaped_in_metrics(written: str) -> None:
    leases = (replace(LEASE, holder=written),)
    (sample,) = parsed(replace(EMPTY, leases=leases))["stockyard_lease_until_timestamp_seconds"]
    assert sample.labels["holder"] == written


def test_known_memory_is_reported_in_bytes(busy: Yard) -> None:
    snapshot = take_snapshot(busy.context)
    first, second, *_more_hosts = snapshot.hosts
    known = replace(first.info, memory=MemoryUse(private_mib=1.5, shared_mib=2.0, oom_score=0))
    parsed_page = parsed(replace(snapshot, hosts=(replace(first, info=known), second)))
    assert [(s.labels["kind"], s.value) for s in parsed_page["stockyard_host_memory_bytes"]] == [
        ("private", 1.5 * 2**20),
        ("shared", 2.0 * 2**20),
    ]


def test_a_file_is_replaced_when_the_yard_changed(busy: Yard, tmp_path: Path) -> None:
    path = tmp_path / "yard.prom"
    assert busy.report(path, "metrics", check=True).changed
    assert not path.exists()
    assert busy.report(path, "metrics").changed
    assert not busy.report(path, "metrics").changed
    busy.fleets.delete("ci", timeout=60.0)
    assert busy.report(path, "metrics").changed
    assert [entry.name for entry in tmp_path.glob("*yard*")] == ["yard.prom"]


@pytest.mark.parametrize(
    ("place", "form"), [("missing/yard.html", "html"), (".", "html"), ("yard.html", "pdf")]
)
def test_unwritable_report_is_refused(busy: Yard, tmp_path: Path, place: str, form: str) -> None:
    with pytest.raises(InvalidInput):
        busy.report(tmp_path / place, form)
