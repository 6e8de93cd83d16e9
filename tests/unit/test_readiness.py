# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report to systemd that a service is ready."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stockyard.readiness import VARIABLE, report_ready


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_once_the_endpoint_is_ready(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{tmp_path}/notify"
    address, shown_address = (path, path) if kind == "path" else (f"\0{path}", f"@{path}")
    monkeypatch.setenv(VARIABLE, shown_address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(5)
        report_ready()
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    report_ready()
