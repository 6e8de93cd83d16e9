# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benches report correctly: medians, bounds, and named phases."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import compute, derive, run, spans, start
from bench.book import Book
from bench.counting import CountingProvider
from bench.options import Options
from stockyard import FleetSpec, HostInfo, TemplateInfo, TemplateSpec, Yard
from stockyard.guest.operations import OPERATIONS
from stockyard.providers.open import open_provider
from tests.helpers.clocks import BriskClock


def fail() -> None:
    raise RuntimeError("on purpose")


def test_a_bound_is_met_or_missed_by_the_median(tmp_path: Path) -> None:
    book = Book("start")
    book.note("quick", "s", 9.0, 1.0, 2.0, most=2.0)
    book.note("slow", "s", 3.0, 5.0, most=3.5)
    book.ratio("slow", "quick", most=4.0)
    book.ratio("slow", "absent")
    with book.attempt("what fails"):
        fail()
    saved = json.loads(book.save(tmp_path).read_text())
    assert [(f["name"], f["median"], f["verdict"]) for f in saved["figures"]] == [
        ("quick", 2.0, "met"),
        ("slow", 4.0, "MISSED"),
        ("slow / quick", 2.0, "met"),
    ]
    assert saved["figures"][0]["samples"] == [9.0, 1.0, 2.0]
    assert saved["machine"]["cores"]
    assert saved["failed"] == {"what fails": "RuntimeError: on purpose"}
    text = "\n".join(book.lines())
    assert "at most 3.5: MISSED" in text
    assert "NOT MEASURED what fails: RuntimeError: on purpose" in text


@pytest.mark.parametrize("subject", run.SUBJECTS)
def test_every_subject_can_be_run(subject: str) -> None:
    assert callable(importlib.import_module(f"bench.{subject}").measure)


def test_failed_measurement_is_reported_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(book: Book, options: Options) -> None:
        book.note("before", "s", 1.0)
        raise OSError("no QEMU")

    monkeypatch.setattr("bench.start.measure", broken)
    monkeypatch.setattr(run, "WORK", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", "start"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run.main() == 1
    assert "NOT MEASURED the rest: OSError: no QEMU" in capsys.readouterr().out
    assert json.loads((tmp_path / "start.json").read_text())["figures"][0]["name"] == "before"
    monkeypatch.setattr("sys.argv", ["bench", "stort"])
    with pytest.raises(SystemExit):
        run.main()


def test_measurement_of_kvm_is_refused_without_kvm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "WORK", tmp_path)
    monkeypatch.setattr(run, "machine", lambda: {"accelerator": "software emulation"})
    monkeypatch.setattr("sys.argv", ["bench", "--kvm", "compute"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        run.main()
    assert "join the group kvm" in capsys.readouterr().err


def test_failed_machines_of_a_burst_are_counted_and_the_others_measured() -> None:
    def create(number: int) -> None:
        if number == 1:
            fail()
        time.sleep(0.1 * number)

    book = Book("compute")
    compute.measure_calls(book, "burst", create, 4, pause=0.0)
    figures = {name: figure.median for name, figure in book.figures.items()}
    assert figures["burst: failures"] == 1
    assert figures["burst: p50"] < figures["burst: p95"] == figures["burst: p99"]
    assert 0.3 <= figures["burst: p99"] <= figures["burst: all 4"] < 5
    assert book.remarks == {"burst: the first failure": "RuntimeError: on purpose"}


@pytest.mark.parametrize(("percent", "value"), [(50, 2.0), (51, 3.0), (95, 4.0), (100, 4.0)])
def test_percentile_is_a_measured_value(percent: int, value: float) -> None:
    assert compute.percentile([4.0, 1.0, 3.0, 2.0], percent) == value


def test_phases_are_noted_once_in_their_order_and_nothing_stays_patched() -> None:
    class Thing:
        def outer(self) -> None:
            self.inner({"op": "hello"})

        def inner(self, message: dict[str, str]) -> None:
            return

    phases, before = ((Thing, "outer", "outside"), (Thing, "inner", "guest")), Thing.outer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "PHASES", phases)
        with spans.watching() as recorded:
            Thing().outer()
            Thing().inner({"op": "renew-certificate"})
    assert [label for label, _begin, _end in recorded.found] == [
        "outside",
        "guest: renew-certificate",
    ]
    assert (
        0
        <= recorded.taken("outside")
        <= recorded.end_of("outside")
        <= recorded.end_of("guest: renew-certificate")
    )
    assert Thing.outer is before


def test_functions_that_are_watched_exist() -> None:
    missing = [
        name for owner, name, _label in (*spans.PHASES, *derive.PHASES) if not hasattr(owner, name)
    ]
    assert missing == []


def test_moments_of_a_fork_end_with_phases_that_exist() -> None:
    labels = {label for _owner, _name, label in spans.PHASES}
    operations = {f"guest: {name}" for name in OPERATIONS}
    assert set(start.MOMENTS.values()) <= labels | operations


class FakeEngine:
    """Docker where there is none."""

    def __init__(self, host: HostInfo) -> None:
        self.host = host

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments: 0.5


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (
            "scale",
            {
                "1 forks by one task: each",
                "4 idle forks: of the processor",
                "16 idle forks: RAM of its own of each",
            },
        ),
        ("memory", {"a fork, idle for 1 min: RAM of its own", "fork / twin, after 1 min"}),
        (
            "io",
            {
                "overlay: first writes",
                "volume: first writes",
                "TLS front: a question",
                "TLS front: load of 60 MB",
            },
        ),
        ("daytwo", {"rebuild of 4, one additional host", "a lease of a warm spare"}),
    ],
)
def test_subjects_of_real_guests_run_to_their_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, subject: str, expected: set[str]
) -> None:
    """On a hypervisor without guests, and with stand-ins for what is read of them: no figure, but
    every step.
    """
    uri, pki = f"memory://{tmp_path}/hypervisor", str(tmp_path / "pki")

    @contextmanager
    def opened(_work: Path) -> Iterator[tuple[Yard, TemplateInfo]]:
        with Yard(uri, owner="bench", pki_dir=pki, clock=BriskClock()) as yard:
            template = yard.templates.apply(TemplateSpec("bench")).objects[-1]
            yield yard, template

    def another(_uri: str, **_options: Any) -> Yard:
        return Yard(uri, owner="bench", pki_dir=pki, clock=BriskClock())

    stand_ins = {
        "opened": opened,
        "Engine": FakeEngine,
        "processor_seconds": lambda _hosts: 1.0,
        "Yard": another,
        "private_mib": lambda _yard, _host: 30.0,
        "wait_idle": lambda _seconds: None,
        "_image": lambda _size: b"x",
        "in_guest": lambda _host, *_arguments: '{"first": 1.0}',
        "seconds": lambda _begin: 61.0,
    }
    module = importlib.import_module(f"bench.{subject}")
    for name, stand_in in stand_ins.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, stand_in)
    book = Book(subject)
    module.measure(book, Options(tmp_path, False, 2))
    assert book.failed == {}
    assert expected <= book.figures.keys()


def test_calls_for_each_host_do_not_grow_with_their_number(tmp_path: Path) -> None:
    """What CI gates on where the timing of a machine would flake."""
    provider = CountingProvider(open_provider(f"memory://{tmp_path}/hypervisor"))
    counted = {}
    with Yard(
        provider=provider.as_provider(), pki_dir=str(tmp_path / "pki"), clock=BriskClock()
    ) as yard:
        yard.templates.apply(TemplateSpec("base"))
        for count in (10, 40):
            provider.taken()
            yard.fleets.apply(FleetSpec("ci", "base", count=count))
            counted[count] = provider.taken()
            yard.fleets.apply(FleetSpec("ci", "base", count=count))
            counted[-count] = provider.taken()
            yard.fleets.delete("ci")
    more = counted[40] - counted[10]
    assert {name: calls / 30 for name, calls in more.items()} == {
        "host_address": 1,
        "create_host": 1,
        "fork": 1,
        "channel": 2,
        "guest_network": 1,
        "guest identify": 1,
        "guest renew-certificate": 1,
        "guest settle": 1,
        "guest hello": 1,
        "set_link": 1,
        "claim": 1,
        "facts": 1,
    }
    # If nothing has to be done, hosts cost their lines in the result, and a message for the plan
    # and for the result.
    unchanged = counted[-40] - counted[-10]
    assert {name: calls / 30 for name, calls in unchanged.items()} == {
        "facts": 1,
        "channel": 2,
        "guest hello": 2,
    }
