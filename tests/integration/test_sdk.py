# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of SDK users: the examples of the documentation run on a memory hypervisor, and a type
checker accepts correct programs and refuses others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CHECKOUT, PATIENCE

EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGE = CHECKOUT / "docs" / "sdk.md"
CORRECT = """
from stockyard import FleetSpec, Yard

with Yard(owner="me") as yard:
    for host in yard.fleets.apply(FleetSpec("web", template="docker", count=2)).objects:
        print(host.ssh.command, host.docker.environment["DOCKER_HOST"])
    print(yard.volumes.get("data").size_gib + 1)
"""


def examples(page: Path) -> str:
    """Return the program that a page contains: all of its Python examples, one after the other."""
    return "\n".join(EXAMPLE.findall(page.read_text(encoding="utf-8")))


def run_program(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "STOCKYARD_HYPERVISOR": f"memory://{folder}/hypervisor",
        "PYTHONPATH": str(CHECKOUT / "plugins" / "module_utils"),
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def check_types(program: str, folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy on a program as its author would, outside the checkout."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "program.py"]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(CHECKOUT / "plugins" / "module_utils")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_examples_of_the_page_run(tmp_path: Path) -> None:
    result = run_program(examples(PAGE), tmp_path)
    assert result.returncode == 0, result.stderr
    assert "create host web-3" in result.stdout
    assert "web 2 of 2 hosts are ready" in result.stdout
    assert "\n2 hosts\n" in result.stdout
    assert (tmp_path / "yard.html").exists()


def test_whole_program_runs(tmp_path: Path) -> None:
    program = (CHECKOUT / "examples" / "sdk.py").read_text(encoding="utf-8")
    result = run_program(program, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("DOCKER_HOST=tcp://") == 3


def test_page_shows_each_resource_client() -> None:
    clients = set(re.findall(r"yard\.(\w+)\.\w+\(", examples(PAGE)))
    assert clients == {
        "certificates",
        "endpoints",
        "fleets",
        "hosts",
        "leases",
        "pools",
        "templates",
        "volumes",
    }


def test_correct_programs_pass_the_type_checker(tmp_path: Path, mypy_cache: Path) -> None:
    for program in (CORRECT, examples(PAGE)):
        result = check_types(program, tmp_path, mypy_cache)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("correct", "wrong", "message"),
    [
        ("host.ssh.command", "host.ssh.comand", '"SshAccess" has no attribute "comand"'),
        ("host.docker", 'host["docker"]', 'Value of type "HostInfo" is not indexable'),
        ('.get("data").size_gib', '.get("data").objects', '"VolumeInfo" has no attribute'),
        ("count=2", 'count="2"', "incompatible type"),
    ],
)
def test_wrong_program_fails_the_type_checker(
    tmp_path: Path, mypy_cache: Path, correct: str, wrong: str, message: str
) -> None:
    assert correct in CORRECT
    result = check_types(CORRECT.replace(correct, wrong), tmp_path, mypy_cache)
    assert result.returncode == 1, result.stdout + result.stderr
    assert message in result.stdout
