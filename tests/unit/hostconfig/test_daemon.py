# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json: what is merged, what dockerd is told, and what is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import InvalidInput, OperationRefused
from stockyard.hostconfig import daemon
from stockyard.hostconfig.machine import Machine

from .conftest import Programs

Put = Callable[[str, str], None]
VALUES = st.none() | st.booleans() | st.integers() | st.just({"a": ["b"]})
CONFIGS = st.dictionaries(st.sampled_from("abcdef"), VALUES)


def test_other_keys_are_kept_and_null_deletes(machine: Machine, put: Put) -> None:
    put(daemon.PATH, '{"debug": true, "icc": false, "labels": ["a"]}')
    change = daemon.plan(machine, {"icc": None, "labels": ["b"]})
    assert change.after == {"debug": True, "labels": ["b"]}
    assert change.keys == ("icc", "labels")


def test_dockerd_is_reloaded_if_sufficient(machine: Machine, put: Put, programs: Programs) -> None:
    programs.say("systemctl is-active")
    programs.say("systemctl reload")
    assert daemon.apply(machine, daemon.plan(machine, {"labels": ["a"], "debug": True})) == "reload"
    assert "systemctl reload docker" in programs.lines
    assert json.loads(machine.read(daemon.PATH) or "") == {"labels": ["a"], "debug": True}


def test_dockerd_is_restarted_if_necessary(machine: Machine, programs: Programs) -> None:
    programs.say("systemctl is-active")
    programs.say("systemctl restart")
    assert daemon.apply(machine, daemon.plan(machine, {"labels": ["a"], "icc": False})) == "restart"


def test_a_second_time_nothing_is_done(machine: Machine, put: Put, programs: Programs) -> None:
    put(daemon.PATH, '{"icc":false}')
    assert daemon.apply(machine, daemon.plan(machine, {"icc": False})) == "none"
    assert programs.lines == []
    assert machine.read(daemon.PATH) == '{"icc":false}'


def test_a_dockerd_that_does_not_run_is_not_started(machine: Machine, programs: Programs) -> None:
    programs.say("systemctl is-active", code=3)
    assert daemon.apply(machine, daemon.plan(machine, {"icc": False})) == "none"
    assert not any("restart" in line for line in programs.lines)


def test_configuration_that_dockerd_refuses_is_reverted(
    machine: Machine, put: Put, programs: Programs
) -> None:
    put(daemon.PATH, '{"icc": true}')
    programs.say("systemctl is-active")
    programs.say("systemctl restart", code=1, err="Job for docker.service failed")
    with pytest.raises(
        daemon.DaemonRefused, match="dockerd does not start with this configuration; the earlier"
    ):
        daemon.apply(machine, daemon.plan(machine, {"icc": False}))
    assert machine.read(daemon.PATH) == '{"icc": true}'
    assert programs.lines[-1] == "systemctl restart docker"


def test_refusal_holds_the_words_of_dockerd(machine: Machine, programs: Programs) -> None:
    programs.say("systemctl is-active")
    programs.say("systemctl restart", code=1, err="Job for docker.service failed")
    programs.say(
        "journalctl", out="failed to start daemon: bad bip\nfailed to start daemon: bad bip\n"
    )
    with pytest.raises(daemon.DaemonRefused) as caught:
        daemon.apply(machine, daemon.plan(machine, {"bip": "x"}))
    assert caught.value.cause == "failed to start daemon: bad bip"


def test_value_of_another_type_is_refused_by_the_plan(machine: Machine) -> None:
    with pytest.raises(InvalidInput, match="mtu"):
        daemon.plan(machine, {"mtu": "1400"})


def test_reverted_new_file_is_deleted(machine: Machine, programs: Programs) -> None:
    programs.say("systemctl is-active")
    programs.say("systemctl restart", code=1)
    with pytest.raises(daemon.DaemonRefused):
        daemon.apply(machine, daemon.plan(machine, {"icc": False}))
    assert machine.read(daemon.PATH) is None


def test_dockerd_validates_the_file_if_it_can(machine: Machine, programs: Programs) -> None:
    programs.say("dockerd --help", out="  --validate   Validate daemon configuration and exit")
    programs.say("dockerd --validate", code=1, err="the following directives don't match: iccc")
    with pytest.raises(daemon.DaemonRefused, match="iccc"):
        daemon.apply(machine, daemon.plan(machine, {"iccc": False}))
    assert machine.read(daemon.PATH) is None


def test_sockets_are_not_named_twice(machine: Machine, programs: Programs) -> None:
    programs.say("systemctl cat", out="[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n")
    with pytest.raises(OperationRefused, match="-H"):
        daemon.plan(machine, {"hosts": ["fd://"]})
    programs.say(
        "systemctl cat",
        out="ExecStart=/usr/sbin/dockerd -H fd://\nExecStart=\nExecStart=/usr/sbin/dockerd\n",
    )
    assert daemon.plan(machine, {"hosts": ["fd://"]}).action == "restart"


@pytest.mark.parametrize("text", ["[]", "{", "null", "1", '"x"', "{'a': 1}"])
def test_a_broken_file_is_left_alone(machine: Machine, put: Put, text: str) -> None:
    put(daemon.PATH, text)
    with pytest.raises(InvalidInput):
        daemon.plan(machine, {"icc": False})
    assert machine.read(daemon.PATH) == text


@given(CONFIGS, CONFIGS, st.booleans())
def test_merging_twice_is_merging_once(
    old: dict[str, Any], new: dict[str, Any], purge: bool
) -> None:
    once = daemon.merged(old, new, purge=purge)
    assert daemon.merged(once, new, purge=purge) == once
    assert None not in once.values()
    assert purge or all(once[k] == v for k, v in old.items() if k not in new and v is not None)
