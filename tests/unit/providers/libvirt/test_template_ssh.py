# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH to a template: it is removed completely, and gives no way out."""

from __future__ import annotations

from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import HypervisorError
from stockyard.providers.libvirt import template_ssh


class Qemu:
    """A monitor that knows which network back ends are there."""

    name = "template base"

    def __init__(self, refusals: int = 0) -> None:
        self.there: dict[str, dict[str, Any]] = {}
        self.links: list[bool] = []
        self.refusals = refusals

    def command(self, execute: str, **arguments: Any) -> None:
        if execute == "netdev_add":
            if self.refusals:
                self.refusals -= 1
                raise HypervisorError("Could not set up host forwarding rule")
            assert arguments["id"] not in self.there
            self.there[arguments["id"]] = arguments
        else:
            del self.there[arguments["id"]]

    def set_link(self, nic: str, up: bool) -> None:
        assert nic == "nic0"
        self.links.append(up)


def test_one_forward_leads_in_and_nothing_out() -> None:
    qemu = Qemu()
    with template_ssh.forward_ssh(qemu, "nic0", Deadline(5)) as (address, port):  # type: ignore[arg-type]
        network = qemu.there[template_ssh.NETWORK]
        assert network["hostfwd"] == [{"str": f"tcp:127.0.0.1:{port}-:22"}]
        assert (address, network["restrict"], network["ipv6"]) == ("127.0.0.1", True, False)
        assert qemu.there[template_ssh.PORT]["netdev"] == template_ssh.NETWORK
        assert qemu.links == [True]
    assert (qemu.there, qemu.links) == ({}, [True, False])


def test_occupied_port_is_replaced_by_another() -> None:
    with template_ssh.forward_ssh(Qemu(refusals=3), "nic0", Deadline(5)) as (_address, port):  # type: ignore[arg-type]
        assert port
    with (
        pytest.raises(HypervisorError, match="forwarding"),
        template_ssh.forward_ssh(Qemu(refusals=template_ssh.TRIES), "nic0", Deadline(5)),  # type: ignore[arg-type]
    ):
        pass


def test_forward_is_removed_after_a_failure_which_is_reported() -> None:
    qemu = Qemu()
    with pytest.raises(KeyError), template_ssh.forward_ssh(qemu, "nic0", Deadline(5)):  # type: ignore[arg-type]
        raise KeyError
    assert (qemu.there, qemu.links) == ({}, [True, False])


def test_a_network_that_stays_is_an_error() -> None:
    class Stubborn(Qemu):
        def command(self, execute: str, **arguments: Any) -> None:
            if execute == "netdev_del":
                raise HypervisorError("it stays")
            super().command(execute, **arguments)

    with (
        pytest.raises(HypervisorError, match="it stays"),
        template_ssh.forward_ssh(Stubborn(), "nic0", Deadline(5)),  # type: ignore[arg-type]
    ):
        pass
