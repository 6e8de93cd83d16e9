# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in a guest with which the hypervisor forwards the ports of containers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from stockyard import ImageSpec, SecuritySpec
from stockyard.guest import port_files
from stockyard.guest.ports import relay
from stockyard.guest.recipe import recipe
from stockyard.guest.security import daemon

KEY = "userland-proxy-path"


def test_dockerd_starts_the_program_of_stockyard() -> None:
    files = recipe(ImageSpec()).files
    assert json.loads(files[daemon.PATH].text)[KEY] == port_files.PROXY
    assert files[port_files.PROXY].mode == 0o755
    assert relay.PROGRAM == port_files.PROXY
    assert "import stockyard" not in files[f"{port_files.PACKAGE}/relay.py"].text


def test_declared_settings_of_dockerd_stay() -> None:
    declared = {daemon.PATH: json.dumps({"debug": True})}
    keys = json.loads(recipe(ImageSpec(files=declared)).files[daemon.PATH].text)
    assert keys == {"debug": True, KEY: port_files.PROXY}
    declared = {daemon.PATH: json.dumps({KEY: "/usr/local/bin/other"})}
    keys = json.loads(recipe(ImageSpec(files=declared)).files[daemon.PATH].text)
    assert keys == {KEY: "/usr/local/bin/other"}


@pytest.mark.parametrize(
    "profile",
    [
        SecuritySpec("shared"),
        SecuritySpec("hostile"),
        SecuritySpec(user_namespaces="rootless"),
        SecuritySpec(icc=False),
    ],
)
def test_dockerd_that_starts_no_proxy_as_root_has_no_program(profile: SecuritySpec) -> None:
    files = recipe(ImageSpec(), profile=profile).files
    assert port_files.PROXY not in files
    assert KEY not in files[daemon.PATH].text


def test_host_without_a_relay_uses_docker_proxy_at_once(tmp_path: Path) -> None:
    (tmp_path / "docker-proxy").write_text("#!/bin/sh\necho proxy $@\n")
    (tmp_path / "docker-proxy").chmod(0o755)
    result = subprocess.run(
        ["sh", "-c", port_files.SCRIPT, "docker-proxy", "-proto", "tcp"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "proxy -proto tcp\n"
