# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard template``."""

from __future__ import annotations

from pathlib import Path

from stockyard import Yard

from .conftest import Console

CREATE = ("template", "create", "warm", "--from-host", "ci-1")
PLAN = "build template warm: it does not exist; it will be created from host ci-1"


def test_a_template_is_created_from_a_host(real: Yard, console: Console) -> None:
    assert console(*CREATE, "--dry-run")[:2] == (0, f"would {PLAN}\n")
    assert [info.name for info in real.templates.list()] == ["base"]
    assert console(*CREATE)[:2] == (0, f"{PLAN}\n")
    assert real.templates.get("warm").from_host == "ci-1"
    assert console(*CREATE)[:2] == (0, "")


def test_another_revision_creates_another_generation(real: Yard, console: Console) -> None:
    first = console.json(*CREATE)["templates"][-1]["generation"]
    answer = console.json(*CREATE, "--revision", "2")
    assert answer["plan"][0].startswith("build template warm: its declaration changed")
    assert answer["templates"][-1]["generation"] != first


def test_nonsense_is_refused(real: Yard, console: Console) -> None:
    assert console("template", "create", "warm")[0] == 2
    assert console(*CREATE, "--timeout", "soon")[0] == 2
    assert console("template", "create", "warm", "--from-host", "none")[0] == 1
    real.leases.acquire("ci", holder="me")
    leased = real.leases.list(holder="me")[0].host
    code, _output, errors = console("template", "create", "warm", "--from-host", leased)
    assert (code, "it is leased by me" in errors) == (1, True)


def test_build_uses_the_file_of_another_owner(real: Yard, console: Console, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    Path("yard.yml").write_text("yard_templates: [{name: docker}]\n")
    build = ("template", "build", "docker", "--share-dir", "../shared")
    assert console.json(*build)["plan"] == ["build template docker: it does not exist"]
    (saved,) = shared.iterdir()
    key = saved.stem.partition("-")[2]
    console.where = [*console.where[:2], "--pki-dir", str(tmp_path / "keys"), "--owner", "second"]
    plan = console.json(*build, "--dry-run", "--trust", key)["plan"]
    assert plan[0].startswith(f"load template docker: it does not exist; {saved} has it")
    assert console.json(*build)["plan"][0].startswith("build template docker")
    assert "is not a public key" in console(*build, "--trust", "key")[2]
