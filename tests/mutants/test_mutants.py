# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small faults, put into a copy of the code one at a time: fast tests must notice each.

A file ``NAME.yml`` next to this one has the faults of one subject. Each fault has a name, the file
under the SDK (or from the checkout, with a leading slash), the text ``old`` that occurs in the file
once, the text ``new``, and the tests that must fail. A fault that its tests do not notice, a text
that is no longer in the file, and a test that fails without a fault, are failures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.full
CHECKOUT = Path(__file__).parents[2]
SDK = Path("plugins/module_utils/stockyard")
COPIED = ("plugins", "tests/unit", "tests/helpers", "tests/jenkins")
PATIENCE = 300.0
# The exit status of pytest if a test failed. Another one, as for a test that does not exist, proves
# nothing.
FAILED = 1
LEAST = 60


@dataclass(frozen=True)
class Mutant:
    """A small fault.

    :param path: the file, from the checkout.
    :param tests: the tests that must notice it.
    """

    name: str
    path: Path
    old: str
    new: str
    tests: tuple[str, ...]


def read(path: Path) -> Iterator[Mutant]:
    """Yield the faults in a file."""
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        name, file = f"{path.stem}: {entry['name']}", str(entry["file"])
        target = Path(file[1:]) if file.startswith("/") else SDK / file
        tests = entry["tests"]
        yield Mutant(
            name,
            target,
            entry["old"],
            entry["new"],
            tuple(tests) if isinstance(tests, list) else (tests,),
        )


MUTANTS = [mutant for path in sorted(Path(__file__).parent.glob("*.yml")) for mutant in read(path)]
TESTS = sorted({test for mutant in MUTANTS for test in mutant.tests})


class Copy:
    """A copy of the code and of the fast tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ignored = shutil.ignore_patterns("__pycache__")
        for name in COPIED:
            shutil.copytree(CHECKOUT / name, root / name, ignore=ignored)
        for name in ("pyproject.toml", "tests/conftest.py"):
            shutil.copy(CHECKOUT / name, root / name)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run tests of the copy on the code of the copy."""
        command = [sys.executable, "-m", "pytest", "-q", *arguments]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            "PYTHONPATH": str(self.root / "plugins" / "module_utils"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Put a fault into the code for the length of the block."""
        path = self.root / mutant.path
        text = path.read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, (
            f"{mutant.path} contains it {text.count(mutant.old)} times"
        )
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("mutants"))


def test_tests_pass_without_a_fault(copy: Copy) -> None:
    result = copy.run(*TESTS)
    assert result.returncode == 0, result.stdout[-3000:]


def test_there_are_enough_faults_of_every_subject() -> None:
    assert len(MUTANTS) >= LEAST
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_fault_is_noticed(copy: Copy, mutant: Mutant) -> None:
    with copy.mutated(mutant):
        result = copy.run("-x", *mutant.tests)
    assert result.returncode == FAILED, f"survived\n{result.stdout[-2000:]}{result.stderr[-500:]}"
