# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that answers with nonsense costs its own host, names it, and changes nothing for the
others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import FleetSpec, Yard
from stockyard.errors import GuestError, StockyardError, UnforeseenError
from stockyard.guest import replies
from stockyard.guest.agent import wire
from tests.helpers.faulty_provider import FaultyProvider

HOSTILE: list[Any] = [None, [{}], 10**400, "\x1b]0;owned\x07", "a\r\nhost ci-2: ready", "\ud800"]
FIELDS = ("mac", "ssh_host_key", "csr")
Change = Callable[[dict[str, Any]], dict[str, Any]]


def once(change: Change) -> Change:
    """Return a change of the first answer alone."""
    numbers = itertools.count()
    return lambda answer: answer if next(numbers) else change(answer)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_host_whose_agent_answers_nonsense_fails_alone(
    yard: Yard, hypervisor: FaultyProvider, field: str, value: Any
) -> None:
    hypervisor.tamper("identify", once(lambda answer: {**answer, field: value}))
    with pytest.raises(StockyardError) as caught:
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
    assert str(caught.value).isprintable()
    assert caught.value.name.startswith("host ci-")
    (remaining_host,) = yard.hosts.list()
    assert remaining_host.ready
    assert remaining_host.name != caught.value.name.removeprefix("host ")


@pytest.mark.parametrize(
    "error",
    [RecursionError("deep"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), KeyError("\x1b")],
)
def test_host_with_an_unforeseen_error_fails_alone(
    yard: Yard, hypervisor: FaultyProvider, error: Exception
) -> None:
    hypervisor.fail("channel", error)
    with pytest.raises(UnforeseenError, match="unexpected error") as caught:
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
    assert str(caught.value).isprintable()
    assert type(error).__name__ in caught.value.cause
    assert len(yard.hosts.list()) == 1
    assert yard.fleets.apply(FleetSpec("ci", "base", count=2)).changed


def test_failed_deletion_names_the_host(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    hypervisor.fail("destroy", RecursionError("deep"))
    with pytest.raises(UnforeseenError) as caught:
        yard.fleets.delete("ci")
    assert caught.value.name.startswith("host ci-")
    assert len(yard.hosts.list()) == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["ok", "error", "id", "csr", "missing"]), ANYTHING))
def test_reply_of_an_agent_is_success_or_an_error_on_one_line(reply: dict[str, Any]) -> None:
    if reply.get("ok") is True:
        assert replies.checked(reply, "hello", "host ci-1") == reply
        return
    with pytest.raises(GuestError) as caught:
        replies.checked(reply, "hello", "host ci-1")
    assert str(caught.value).isprintable()


def test_reply_that_nests_too_deep_is_refused() -> None:
    deep = b'{"id":1,"ok":true,"missing":' + b"[" * 50 + b"]" * 50 + b"}"
    assert wire.decode(deep)
    with pytest.raises(ValueError, match="deeper than 32"):
        replies.decode(deep)


def test_progress_of_a_yard_is_one_printable_line(uri: str, tmp_path: Any) -> None:
    lines: list[str] = []
    with Yard(uri, pki_dir=str(tmp_path / "pki"), progress=lines.append) as opened:
        opened.context.progress(
            "host ci-1: waits for \x1b[2K\rhost ci-2: ready\nfleet ci: done \ud800"
        )
    assert lines == ["host ci-1: waits for \\x1b[2K\\rhost ci-2: ready\\nfleet ci: done \\ud800"]
