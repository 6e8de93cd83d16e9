# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands for a whole yard, and the declaration that every command uses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stockyard import Yard
from stockyard.cli.main import main

YARD = """
yard_owner: demo
yard_hypervisor: {uri}
yard_pki_dir: {folder}/pki
yard_templates: [{{name: docker}}]
yard_fleets: [{{name: web, template: docker, count: {count}}}]
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a declaration, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    declare(tmp_path, uri, 2)
    return tmp_path


def declare(folder: Path, uri: str, count: int) -> None:
    (folder / "yard.yml").write_text(YARD.format(uri=uri, folder=folder, count=count))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command without options that name the yard."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        return code, *capsys.readouterr()

    return run


def test_yard_is_planned_applied_and_destroyed(folder: Path, uri: str, run: Run) -> None:
    code, plan, _errors = run("plan")
    assert code == 0
    assert [line.partition(":")[0] for line in plan.splitlines()] == [
        "would build template docker",
        "would create host web-1",
        "would create host web-2",
    ]
    assert run("ls") == (0, "", "stockyard: no hosts\n")
    code, output, errors = run("apply")
    assert code == 0
    assert "create host web-2" in output
    assert "tcp://" in output.splitlines()[-1]
    assert "ready" in errors
    assert run("plan", "--quiet") == (0, "", "stockyard: nothing to change\n")
    assert json.loads(run("apply", "--json")[1])["changed"] is False
    assert [host["name"] for host in json.loads(run("ls", "--json")[1])] == ["web-1", "web-2"]
    code, output, errors = run("destroy", "--quiet")
    assert (code, output) == (1, "")
    assert "Delete all this of owner demo? There is no terminal" in errors
    assert "would delete host web-1" in run("destroy", "--dry-run")[1]
    assert json.loads(run("destroy", "--yes", "--json")[1])["changed"]
    assert run("ls")[1] == ""
    assert "docker" in run("template", "ls")[1]
    run("destroy", "--yes", "--templates")
    assert run("template", "ls")[1] == ""


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("\n", 1), ("", 1)])
def test_deletion_is_confirmed_on_a_terminal(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    run("apply")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer)
    assert run("destroy")[0] == code
    assert bool(run("ls")[1]) == bool(code)


def test_saved_plan_is_applied_once(folder: Path, uri: str, run: Run) -> None:
    run("apply")
    declare(folder, uri, 1)
    assert run("plan", "--save", "plan.json")[0] == 0
    assert (folder / "plan.md").exists()
    assert run("apply", "--plan", "plan.json")[0] == 0
    assert len(json.loads(run("ls", "--json")[1])) == 1
    declare(folder, uri, 3)
    code, _output, errors = run("apply", "--plan", "plan.json")
    assert (code, "plan" in errors) == (1, True)


def test_declared_plan_is_saved_and_applied(folder: Path, uri: str, run: Run) -> None:
    declare(folder, uri, 1)
    text = (folder / "yard.yml").read_text()
    (folder / "yard.yml").write_text(f"{text}yard_save_plan: plan.json\n")
    assert run("plan")[0] == 0
    assert (folder / "plan.json").exists()
    declare(folder, uri, 3)
    text = (folder / "yard.yml").read_text()
    (folder / "yard.yml").write_text(f"{text}yard_apply_plan: plan.json\n")
    for command in ("plan", "apply"):
        code, _output, errors = run(command, "--quiet")
        assert (code, "plan" in errors) == (1, True)
    assert json.loads(run("ls", "--json")[1]) == []
    declare(folder, uri, 1)
    assert run("apply", "--plan", "plan.json")[0] == 0


def test_undeclared_objects_are_deleted_as_permitted(folder: Path, uri: str, run: Run) -> None:
    run("apply")
    text = YARD.replace("name: web", "name: api").format(uri=uri, folder=folder, count=1)
    (folder / "yard.yml").write_text(text)
    assert run("apply")[0] == 1
    assert run("apply", "--prune", "no")[0] == 0
    assert len(json.loads(run("ls", "--json")[1])) == 3
    (folder / "yard.yml").write_text(f"{text}yard_prune: no\n")
    assert run("plan", "--quiet") == (0, "", "stockyard: nothing to change\n")
    assert run("apply", "--prune", "force")[0] == 0
    assert [host["name"] for host in json.loads(run("ls", "--json")[1])] == ["api-1"]


def test_declared_templates_are_built(folder: Path, run: Run) -> None:
    assert run("template", "build", "none")[0] == 2
    assert "would build template docker" in run("template", "build", "--dry-run")[1]
    answer = json.loads(run("template", "build", "docker", "--json")[1])
    assert answer["templates"][0]["name"] == "docker"
    assert run("template", "build", "--quiet") == (0, "", "")
    assert run("ls")[1] == ""


def test_example_is_a_declaration(
    tmp_path: Path, uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("plan", "--hypervisor", uri)[0] == 2
    assert run("init", "--owner", "me")[1].startswith("wrote yard.yml")
    assert yaml.safe_load(Path("yard.yml").read_text())["yard_owner"] == "me"
    where = ("--hypervisor", uri, "--pki-dir", str(tmp_path / "pki"))
    assert "would create host web-3" in run("plan", *where)[1]
    code, _output, errors = run("init")
    assert (code, "the file exists" in errors) == (1, True)
    assert json.loads(run("init", "other.yml", "--json")[1]) == {"file": "other.yml"}
    assert "would create host web-3" in run("plan", "--yard", "other.yml", *where)[1]
    comments = Path("yard.yml").read_text().replace("# ", "")
    for line in ("egress: proxy", "ttl: 8h", "memory_mib: 1024"):
        assert line in comments


def test_option_wins_over_declaration_and_declaration_over_environment(
    folder: Path, uri: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply")
    monkeypatch.setenv("STOCKYARD_OWNER", "other")
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", f"{uri}-other")
    assert len(json.loads(run("ls", "--json")[1])) == 2
    assert json.loads(run("ls", "--json", "--owner", "other")[1]) == []
    assert json.loads(run("ls", "--json", "--yard", "-")[1]) == []
    monkeypatch.setenv("STOCKYARD_YARD", "-")
    assert json.loads(run("ls", "--json")[1]) == []
    monkeypatch.setenv("STOCKYARD_YARD", str(folder / "yard.yml"))
    monkeypatch.chdir("/")
    assert len(json.loads(run("ls", "--json")[1])) == 2


def test_declaration_of_the_last_demo_is_used(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply")
    checkout = folder / "checkout"
    (checkout / "build").mkdir(parents=True)
    monkeypatch.chdir(checkout)
    assert "declaration" in run("doctor", "--json")[1]
    (checkout / "build" / "demo-declaration").write_text(f"{folder}/yard.yml\n")
    assert len(json.loads(run("ls", "--json")[1])) == 2


def test_declaration_that_others_can_write_must_be_named(folder: Path, run: Run) -> None:
    run("apply")
    (folder / "yard.yml").chmod(0o666)
    code, output, errors = run("ls")
    assert (code, output) == (1, "")
    assert "another user can write the declaration" in errors
    assert run("ls", "--yard", "yard.yml")[0] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("yard_fleets: [{name: web, cuont: 1}]", "fleet web: cuont is not known"),
        ("yard_fleets: [{name: web, template: '{{ x }}'}]", "Jinja2"),
        ("yard_rebuild: maybe", "rebuild: 'maybe' is no boolean"),
        ("yard_owner: !vault x", "Ansible Vault"),
    ],
)
def test_declaration_that_cannot_be_applied_is_refused(
    folder: Path, uri: str, run: Run, text: str, reason: str
) -> None:
    (folder / "yard.yml").write_text(text)
    code, output, errors = run("plan", "--hypervisor", uri)
    assert (code, output) == (2, "")
    assert reason in errors


def test_fifty_hosts_are_listed_in_half_a_second(folder: Path, uri: str) -> None:
    """Compare processor time, as other processes change the elapsed time."""
    import resource
    import subprocess

    declare(folder, uri, 50)
    assert main(["apply", "--quiet"]) == 0

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    python = min(seconds("-c", "pass") for _sample in range(3))
    assert min(seconds("-m", "stockyard.cli.main", "ls") for _sample in range(3)) < python + 0.5


def test_yard_of_the_declaration_is_that_of_the_sdk(folder: Path, uri: str, run: Run) -> None:
    run("apply")
    with Yard(uri, owner="demo", pki_dir=str(folder / "pki")) as yard:
        assert [host.name for host in yard.hosts.list()] == ["web-1", "web-2"]
