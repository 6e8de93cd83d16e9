# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard template push``, ``pull``, ``save`` and ``load``."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard import Yard
from tests.helpers.oci_registry import OciRegistry, serving

from .conftest import Console


def test_template_is_saved_and_loaded(real: Yard, console: Console, tmp_path: Path) -> None:
    file = str(tmp_path / "base.tar")
    plan = f"save template base: {file} does not exist"
    assert console("template", "save", "base", file, "--dry-run")[:2] == (0, f"would {plan}\n")
    assert not Path(file).exists()
    assert console("template", "save", "base", file)[:2] == (0, f"{plan}\n")
    assert console("template", "save", "base", file)[:2] == (0, "")
    answer = console.json("template", "load", file, "--name", "copy", "--allow-boot")
    assert answer["changed"]
    assert answer["templates"][-1]["generation"] == real.templates.get("base").generation
    assert console("template", "load", file, "--name", "copy")[:2] == (0, "")


def test_template_is_pushed_and_pulled_with_a_login(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(OciRegistry(("ana", "word"))) as server:
        place = f"{server.address}/team/base"
        assert console("template", "push", "base", place)[0] == 1
        monkeypatch.setenv("STOCKYARD_REGISTRY_PASSWORD", "word")
        code, _output, errors = console("template", "push", "base", place)
        assert (code, "--registry-user" in errors) == (2, True)
        login = ("--registry-user", "ana")
        (artifact,) = console.json("template", "push", "base", place, *login)["artifacts"]
        assert artifact["location"] == f"{place}:{artifact['generation']}"
        (template,) = console.json(
            "template", "pull", artifact["location"], "--name", "copy", *login
        )["templates"]
        assert template["name"] == "copy"
        monkeypatch.setenv("STOCKYARD_REGISTRY_PASSWORD", "secretly wrong")
        code, output, errors = console("template", "pull", artifact["location"], *login)
        assert code == 1
        assert "secretly" not in output + errors
    assert real.templates.get("copy").usable


def test_nonsense_is_refused(real: Yard, console: Console, tmp_path: Path) -> None:
    assert console("template", "push", "base")[0] == 2
    assert console("template", "push", "base", "no reference")[0] == 2
    assert console("template", "pull", "registry.example.com/team/base")[0] == 2
    assert console("template", "load", str(tmp_path / "absent.tar"))[0] == 2
    assert console("template", "load", str(tmp_path / "absent.tar"), "--trust", "x")[0] == 2
    assert [info.name for info in real.templates.list()] == ["base"]
