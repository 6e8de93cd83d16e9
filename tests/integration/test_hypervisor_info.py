# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module hypervisor_info with the memory hypervisor, and with an unused vSphere URI."""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, task

NOWHERE = "vsphere://127.0.0.1:9/DC0/DC0_C0"
SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    tasks = [
        task("memory", "hypervisor_info"),
        task("checked", "hypervisor_info", {"check_mode": True}),
        task("nobody", "hypervisor_info", hypervisor=NOWHERE, username="u", password=SECRET),
        task("no name", "hypervisor_info", hypervisor=NOWHERE),
        task("no cluster", "fleet_info", hypervisor="vsphere://vc", username="u", password=SECRET),
    ]
    return controller.play(tasks, "-vvv")


def test_hypervisor_info_returns_the_capabilities(played: Played) -> None:
    for name in ("memory", "checked"):
        assert played[name]["changed"] is False
        assert played[name]["problems"] == []
        assert played[name]["modes"] == ["instant", "linked", "full"]
        assert played[name]["endpoints"] is False


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nobody", "ConnectionFailed"), ("no name", "InvalidInput"), ("no cluster", "InvalidInput")],
)
def test_unreachable_hypervisor_is_a_clear_error(played: Played, name: str, kind: str) -> None:
    assert played[name]["error"]["kind"] == kind
    assert played[name]["error"]["remedy"]
    assert "Traceback" not in played[name]["msg"]


def test_a_password_is_nowhere(played: Played) -> None:
    assert SECRET not in played.output
