# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published ports in the arguments of docker-proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.guest.ports.publications import forwarded_port, publications


def arguments(port: object = 9999, protocol: str = "tcp", address: str = "0.0.0.0") -> list[str]:  # noqa: S104
    options = ["-proto", protocol, "-host-ip", address, "-host-port", str(port)]
    return [*options, "-container-ip", "172.17.0.2", "-container-port", "80"]


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (arguments(), 9999),
        (arguments(address="10.0.2.15"), 9999),
        (arguments(address="127.0.0.1"), 0),
        (arguments(address="::"), 0),
        (arguments(protocol="udp"), 0),
        (arguments(port=65536), 0),
        (arguments(port="-1"), 0),
        ([], 0),
        (["-host-port"], 0),
    ],
)
def test_only_ports_that_arrive_from_elsewhere_are_forwarded(words: list[str], port: int) -> None:
    assert forwarded_port(words) == port


def test_publications_are_read_from_the_processes(tmp_path: Path) -> None:
    lines = {
        "10": ["/usr/sbin/docker-proxy", *arguments(1)],
        "11": ["/bin/sh", "/usr/lib/stockyard/docker-proxy", *arguments(2)],
        "12": ["/usr/bin/perl", "/usr/lib/stockyard/ask-for-port", *arguments(3)],
        "13": ["/usr/bin/vi", *arguments(4)],
        "14": ["docker-proxy", *arguments(5, protocol="udp")],
        "15": [],
        "self": ["docker-proxy", *arguments(6)],
    }
    for name, words in lines.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cmdline").write_text("".join(f"{word}\0" for word in words))
    (tmp_path / "16").mkdir()
    assert publications(str(tmp_path)) == {10: 1, 11: 2, 12: 3}
