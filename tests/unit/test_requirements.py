# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Development requirements: each file that is installed has a known hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
FILES = sorted((CHECKOUT / "requirements").glob("*.txt"))
INSTALLS = re.compile(r"pip\"? install .*")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_requirement_has_hashes(path: Path) -> None:
    text = re.sub(r" \\\n *", " ", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert [
        line
        for line in lines
        if not re.fullmatch(r"\S+==\S+( ; .*?)?( --hash=sha256:[0-9a-f]{64})+", line)
    ] == []


def test_scripts_require_the_hashes() -> None:
    installations = [
        f"{path.name}: {line}"
        for path in sorted((CHECKOUT / "hack").glob("*.sh"))
        for line in re.sub(r" \\\n *", " ", path.read_text()).splitlines()
        if INSTALLS.search(line) and "--requirement" in line
    ]
    assert len(installations) == 4
    assert [line for line in installations if "--require-hashes" not in line] == []
