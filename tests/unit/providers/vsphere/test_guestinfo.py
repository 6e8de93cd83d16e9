# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the line, with the guest's own side at its other end."""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import vim, vmodl

from stockyard import DeadlineExceeded, GuestError, HypervisorError, Unsupported
from stockyard.clock import Deadline
from stockyard.guest.agent import guestinfo as guest
from stockyard.guest.agent import wire
from stockyard.providers.vsphere import guestinfo
from stockyard.providers.vsphere.guestinfo import GuestinfoChannel
from stockyard.providers.vsphere.records import Machine
from tests.helpers.clocks import FakeClock


class Vm:
    """A machine with a guest in it: what is written is answered at the next look."""

    restart_due = False

    def __init__(self) -> None:
        self._moId = "vm-1"
        self.state = "success"
        self.values: dict[str, str] = {}
        self.power = "poweredOn"
        self.lazy = 0
        self.line = guest.Guestinfo(self, self)
        self.reply: dict[str, Any] = {"ok": True, "said": "yes"}
        self.raw = ""

    def get(self, name: str) -> str:
        return self.values.get(guest.PREFIX + name, "")

    def set(self, name: str, value: str) -> None:
        self.values[guest.PREFIX + name] = value

    def freeze(self) -> None:
        raise AssertionError("no request was made")

    def answer(self, line: bytes) -> dict[str, Any]:
        return {"id": wire.decode(line)["id"], **self.reply}

    def ReconfigVM_Task(self, spec: Any) -> Task:  # noqa: N802  # as the API has it
        self.values |= {o.key: o.value for o in spec.extraConfig}
        return Task()

    def look(self) -> dict[str, Any]:
        """Return the value of a key."""
        if self.lazy:
            self.lazy -= 1
        elif self.power == "poweredOn":
            self.line.step()
            self.values |= {guest.PREFIX + guest.ANSWER: self.raw} if self.raw else {}
        options = [vim.option.OptionValue(key=k, value=v) for k, v in self.values.items()]
        return {"config.extraConfig": options, "runtime.powerState": self.power}


class Task:
    """The writing of one request."""

    def __init__(self) -> None:
        self._moId = "task-1"


class Session:
    """Calls, without a vCenter."""

    def change(self, _act: str, _name: str, call: Any) -> Any:
        return call()


@pytest.fixture
def vm(monkeypatch: pytest.MonkeyPatch) -> Vm:
    fake_machine = Vm()

    def together(_session: Any, properties: Any, _name: str) -> Any:
        ended = {
            "info.state": fake_machine.state,
            "info.error": vmodl.fault.NotEnoughLicenses(msg="no licence"),
        }
        return [(ref, ref.look() if isinstance(ref, Vm) else ended) for ref, _names in properties]

    monkeypatch.setattr(guestinfo, "together", together)
    return fake_machine


@pytest.fixture
def machines() -> list[Machine]:
    return []


@pytest.fixture
def channel(vm: Vm, machines: list[Machine]) -> GuestinfoChannel:
    return GuestinfoChannel(Session(), vm, "host one", machines.append)  # type: ignore[arg-type]


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(30, FakeClock())


def test_an_answer_is_waited_for(vm: Vm, channel: GuestinfoChannel, deadline: Deadline) -> None:
    vm.lazy = 5
    assert channel.request({"op": "hello"}, deadline)["said"] == "yes"
    assert channel.request({"op": "hello"}, deadline)["said"] == "yes"
    assert vm.get(guest.REQUEST) == guest.SPENT


def test_error_of_the_guest_is_reported(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    vm.reply = {"ok": False, "error": "no room"}
    with pytest.raises(GuestError, match="no room"):
        channel.request({"op": "identify"}, deadline)


def test_unanswered_request_ends_and_is_overwritten(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    vm.lazy = 10_000
    with pytest.raises(DeadlineExceeded):
        channel.request({"op": "identify", "entropy": "c2VjcmV0"}, deadline)
    assert vm.get(guest.REQUEST) != guest.SPENT
    channel.close()
    assert vm.get(guest.REQUEST) == guest.SPENT


def test_another_one_s_answer_is_not_taken(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    vm.raw = guest.pack({"id": "another", "ok": True})
    with pytest.raises(DeadlineExceeded):
        channel.request({"op": "hello"}, deadline)


@pytest.mark.parametrize("raw", ["x", "AAAA", "A" * (guest.MAX_VALUE + 4), "ü"])
def test_nonsense_is_an_error(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline, raw: str
) -> None:
    vm.raw = raw
    with pytest.raises(GuestError, match="no usable answer"):
        channel.request({"op": "hello"}, deadline)


def test_a_machine_that_is_off_answers_nothing(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    vm.power = "poweredOff"
    with pytest.raises(HypervisorError, match="is not running"):
        channel.request({"op": "hello"}, deadline)


def test_too_long_request_is_not_sent(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    with pytest.raises(GuestError, match="limit"):
        channel.request({"op": "hello", "padding": "x" * guest.MAX_VALUE}, deadline)
    assert vm.values == {}


def test_no_answer_counts_before_its_question_is_written(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline, machines: list[Machine]
) -> None:
    vm.state = "running"
    with pytest.raises(DeadlineExceeded):
        channel.request({"op": "hello"}, deadline)
    assert machines == []
    vm.state = "success"
    channel.request({"op": "hello"}, Deadline(30, FakeClock()))
    assert [machine.power for machine in machines] == ["poweredOn"]


def test_unwritable_request_is_an_error(
    vm: Vm, channel: GuestinfoChannel, deadline: Deadline
) -> None:
    vm.state = "error"
    with pytest.raises(Unsupported, match="no licence"):
        channel.request({"op": "hello"}, deadline)
