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


OUTSIDE = ["-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", "80"]  # noqa: S104


@pytest.mark.parametrize(
    ("has_relay", "options", "expected"),
    [
        (False, OUTSIDE, "proxy"),
        (True, OUTSIDE, "ask"),
        (True, ["-host-ip", "10.0.2.15", "-proto", "tcp"], "ask"),
        (True, ["-proto", "udp", *OUTSIDE[2:]], "proxy"),
        (True, ["-proto", "tcp", "-host-ip", "::"], "proxy"),
        (True, ["-proto", "tcp", "-host-ip", "127.0.0.1"], "proxy"),
    ],
)
def test_only_ports_of_a_host_with_a_relay_are_asked_for(
    tmp_path: Path, has_relay: bool, options: list[str], expected: str
) -> None:
    for name, word in {"docker-proxy": "proxy", "ask": "ask"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {word} $@\n")
        (tmp_path / name).chmod(0o755)
    # As the machine ID after the marker.
    marker = tmp_path / "relay."
    text = port_files.proxy_script(str(marker)).replace(port_files.ASK, f"{tmp_path}/ask")
    text = text.replace("/etc/machine-id", f"{tmp_path}/machine-id")
    (tmp_path / "machine-id").write_text("0123\n")
    if has_relay:
        Path(f"{marker}0123").touch()
    result = subprocess.run(
        ["sh", "-c", text, "docker-proxy", *options],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{expected} {' '.join(options)}\n"
