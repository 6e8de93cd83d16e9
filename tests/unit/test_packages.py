# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of bindep.txt, which `make setup` and the systems of tests install."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.debian_system import CHECKOUT, packages, passed_on

# Programs that are in place of those of the machine: nothing is installed.
PROGRAMS = {
    "dpkg-query": "exit 1",
    "sudo": 'exec "$@"',
    "apt-get": 'echo "$@"',
    "env": 'shift; exec "$@"',
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the programs."""
    for name, line in PROGRAMS.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    return tmp_path


def test_system_has_the_packages_that_set_up_installs(programs: Path) -> None:
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    result = subprocess.run(
        ["/bin/bash", CHECKOUT / "hack" / "packages.sh"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    install = next(line for line in result.stdout.splitlines() if line.startswith("install "))
    names = [word for word in install.split()[1:] if not word.startswith("-")]
    assert packages((CHECKOUT / "bindep.txt").read_text()) == names


def test_packages_of_other_systems_and_of_ci_are_not_installed() -> None:
    text = "# a [comment]\nmake [workstation platform:dpkg]\nchromium [ci platform:dpkg]\n"
    text += "gcc [compile platform:dpkg platform:rpm]\nlibvirt-devel [compile platform:rpm]\n"
    assert packages(text) == ["make", "gcc"]


def test_only_variables_of_mirrors_reach_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in ("https_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HOME", "ANSIBLE_HOME"):
        monkeypatch.setenv(name, "value")
    assert set(passed_on()) == {"https_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"}
