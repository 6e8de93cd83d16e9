# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands for templates, volumes, pools and endpoints, and for maintenance."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from stockyard import EndpointSpec, FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.cli import doctor
from stockyard.cli.command import JSON, Command, Entry
from stockyard.cli.main import LINE, main
from stockyard.cli.version import VERSION
from tests.helpers.simulated_machines import disk_of

from .conftest import Console

# Commands that run a program, serve, print a stream or a script, or that a CI system calls.
WITHOUT_JSON = {
    *("ssh", "exec", "cp", "tunnel", "lease exec", "serve", "endpoint serve"),
    *("logs", "console", "completion", "jenkins drain"),
    *(f"ci gitlab {stage}" for stage in ("config", "prepare", "run", "cleanup")),
}


def test_templates_are_listed_and_deleted(real: Yard, console: Console) -> None:
    (template,) = console.json("template", "ls")
    assert template == real.templates.get("base").to_dict()
    assert template["generation"] in console("template", "ls")[1]
    assert console.json("template", "prune") == {"changed": False, "deleted": []}
    real.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("vim",))))
    real.fleets.apply(FleetSpec("ci", "base", count=2))
    old = f"template base ({template['generation']})"
    for dry_run in (["--dry-run"], []):
        code, output, _error = console("template", "prune", *dry_run)
        assert (code, output) == (0, f"{'would ' * bool(dry_run)}delete {old}\n")
    assert console("template", "delete", "base")[0] == 1
    real.fleets.delete("ci")
    assert console("template", "delete", "base", "--dry-run")[1].startswith("would delete template")
    assert console.json("template", "delete", "base")["templates"] == []


@pytest.mark.parametrize("kind", ["template", "volume", "pool"])
@pytest.mark.parametrize("name", ["", "../x", "\udc80", "a.b", "A B", "x" * 64])
def test_name_that_no_object_can_have_is_refused(
    real: Yard, console: Console, kind: str, name: str
) -> None:
    for options in ([], ["--dry-run"]):
        code, output, errors = console(kind, "delete", name, *options)
        assert (code, output, f"is not a valid {kind} name" in errors) == (2, "", True)
    code, _output, errors = console(kind, "delete", "x", "--tenant", f"t{name}/")
    assert (code, "is not a valid tenant name" in errors) == (2, True)


def test_volumes_are_created_attached_and_deleted(real: Yard, console: Console) -> None:
    assert console("volume", "create", "data", "--size-gib", "2")[1].startswith("create volume")
    attached = console.json("volume", "attach", "data", "ci-1", "/data")
    assert (attached["volumes"][0]["host"], attached["changed"]) == ("ci-1", True)
    assert "2 GiB" in console("volume", "ls")[1]
    assert console("volume", "delete", "data")[0] == 1
    assert console("volume", "detach", "data")[0] == 0
    snapshot = ("volume", "create", "copy", "--source", "data", "--snapshot")
    assert console.json(*snapshot)["volumes"][0]["snapshot"]
    for name in ("copy", "data"):
        assert console("volume", "delete", name)[0] == 0
    assert console.json("volume", "ls") == []
    assert console("volume", "attach", "other", "ci-1", "/x")[1].startswith("create volume other")
    assert real.volumes.get("other").host == "ci-1"


def test_pools_are_created_and_deleted(real: Yard, console: Console) -> None:
    create = ("pool", "create", "small", "--hosts", "2")
    assert console(*create)[1].startswith("create pool small")
    assert console.json("pool", "ls")[0]["hosts"] == 2
    assert console("pool", "ls")[1].splitlines()[1].split()[:2] == ["small", "0/2"]
    assert console("host", "create", "box", "--template", "base", "--pool", "small")[0] == 0
    assert console("pool", "delete", "small")[0] == 1
    assert console("pool", "create", "small", "--hosts", "-1")[0] == 2
    console("host", "delete", "box")
    assert console.json("pool", "delete", "small")["pools"] == []


def test_endpoints_are_listed(real: Yard, console: Console) -> None:
    real.endpoints.apply(EndpointSpec("doors", "store", template="base", socket="/x.sock"))
    assert console.json("endpoint", "ls")[0]["name"] == "doors"
    assert "unix:///x.sock" in console("endpoint", "ls")[1]


def test_clean_up_without_expired_objects_changes_nothing(real: Yard, console: Console) -> None:
    assert console.json("reap") == {"changed": False, "plan": [], "skipped_objects": []}
    assert console("reap") == (0, "", "")


def test_report_is_written(real: Yard, console: Console, tmp_path: Path) -> None:
    page, metrics = tmp_path / "yard.html", tmp_path / "yard.prom"
    assert console("report", str(page))[1] == f"wrote {page}\n"
    assert "ci-1" in page.read_text()
    answer = console.json("report", str(metrics), "--format", "metrics")
    assert (answer["changed"], answer["figures"]["hosts"]) == (True, 2)
    assert console("report", str(tmp_path / "none" / "x"))[0] != 0


def test_doctor_names_what_is_missing_and_its_remedy(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = {item["subject"]: item for item in console.json("doctor")}
    assert findings["yard"] == {
        "state": "ok",
        "subject": "yard",
        "text": "owner stockyard, 2 hosts",
        "remedy": "",
    }
    assert findings["declaration"]["remedy"] == "stockyard init"
    monkeypatch.setenv("PATH", str(tmp_path))
    code, output, _errors = console("doctor")
    assert code == 1
    assert "problem: ssh: not found; needed by ssh, exec, logs and tunnel\n" in output
    assert "  remedy: sudo apt-get install openssh-client\n" in output


@pytest.mark.parametrize("exists", [True, False])
def test_doctor_names_programs_and_kvm_for_qemu(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exists: bool
) -> None:
    monkeypatch.setattr(doctor, "KVM", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    if exists:
        monkeypatch.setattr(doctor, "KVM", tmp_path / "kvm")
        (tmp_path / "kvm").touch()
        monkeypatch.setattr("os.access", lambda *_arguments: False)
    output = console("doctor")[1]
    assert "missing: qemu-img: not found; needed by hosts of QEMU on this machine\n" in output
    assert "  remedy: sudo apt-get install mmdebstrap uidmap\n" in output
    assert "missing: KVM: not usable" in output
    assert ("usermod" in output) is exists


def test_each_problem_has_a_remedy(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    shutil.rmtree(disk_of(real.templates.get("base")))
    Path("yard.yml").write_text("yard_fleets: [{name: web, template: base, cuont: 2}]\n")
    code, output, _errors = console("doctor", "--json")
    findings = [item for item in json.loads(output) if item["state"] != "ok"]
    assert code == 1
    assert len(findings) >= 6
    assert [item for item in findings if not item["remedy"]] == []


def test_doctor_reports_errors_of_the_whole_declaration(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "yard.yml"
    file.write_text("yard_fleets: [{name: web, template: base, cuont: 2}]\n")
    code, output, _errors = console("doctor")
    assert (code, "problem: declaration: " in output, "cuont" in output) == (1, True, True)
    file.write_text("yard_fleets: [{name: web, template: base, count: 2}]\n")
    assert console("doctor")[1].count("ok: declaration: yard.yml\n") == 1


def test_doctor_reports_templates_and_hosts_that_cannot_be_used(
    real: Yard, console: Console, tmp_path: Path
) -> None:
    assert [item["subject"] for item in console.json("doctor") if item["state"] == "problem"] == []
    (host,) = real.hosts.list(name="ci-1")
    state = real.context.provider.observe("stockyard").host("default", "ci-1")
    assert state is not None
    real.context.provider.claim(state.record, resuming=True)
    shutil.rmtree(disk_of(real.templates.get("base")))
    code, output, _errors = console("doctor")
    assert code == 1
    assert "problem: template base: " in output
    assert f"problem: host {host.name}: it runs and is not ready: " in output


def test_doctor_without_a_template_says_how_to_get_one(console: Console) -> None:
    findings = {item["subject"]: item for item in console.json("doctor")}
    assert findings["templates"]["state"] == "missing"
    assert findings["templates"]["remedy"].startswith("stockyard template build")


def test_doctor_reports_an_unreachable_hypervisor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", "nonsense://x")
    assert main(["doctor"]) == 1
    assert "problem: hypervisor: " in capsys.readouterr().out
    assert main(["ls"]) == 2
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", "vsphere://127.0.0.1:1/dc/cluster?insecure")
    assert main(["ls"]) in (1, 2)
    output, errors = capsys.readouterr()
    assert (output, errors.count("stockyard: ")) == ("", 2)


def test_login_comes_from_the_environment_as_with_the_sdk(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", "vsphere://127.0.0.1:1/dc/cluster")
    monkeypatch.setenv("VMWARE_VALIDATE_CERTS", "maybe")
    assert main(["ls"]) == 2
    assert "VMWARE_VALIDATE_CERTS: 'maybe' is neither true nor false" in capsys.readouterr().err


def test_version_is_that_of_the_collection(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert yaml.safe_load((checkout / "galaxy.yml").read_text())["version"] == VERSION
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stockyard {VERSION}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_STOCKYARD_COMPLETE" in script
    assert main(["completion", "tcsh"]) == 2


@pytest.mark.parametrize(
    ("shell", "word", "lines"),
    [
        ("bash", "6", ["plain,ci-1", "plain,ci-2"]),
        ("zsh", "6", ["plain", "ci-1", "_", "plain", "ci-2", "_"]),
        ("fish", "ci", ["plain,ci-1", "plain,ci-2"]),
    ],
)
def test_names_of_hosts_complete_an_argument(
    real: Yard, uri: str, console: Console, shell: str, word: str, lines: list[str]
) -> None:
    words = f"stockyard exec --hypervisor {uri} --pki-dir {console.where[3]} ci"
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(sys.modules["stockyard"].__file__ or "").parents[1]),
        "_STOCKYARD_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": word,
    }
    result = subprocess.run(
        [sys.executable, "-m", "stockyard.cli.main"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.stdout.split() == lines, result.stderr


def test_each_result_can_be_json() -> None:
    without = {
        name
        for name, command in _commands(entry() for _text, entry in LINE.entries.values())
        if JSON not in command.parameters
    }
    assert without == WITHOUT_JSON


def _commands(entries: Iterable[Entry], group: str = "") -> Iterator[tuple[str, Command]]:
    for entry in entries:
        name = f"{group} {entry.name}".strip()
        if isinstance(entry, Command):
            yield name, entry
        else:
            yield from _commands(entry.commands, name)


def test_each_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, (text, entry) in LINE.entries.items():
        assert main([name, "--help"]) == 0
        assert entry().name == name
        output = capsys.readouterr().out
        assert output.startswith(f"Usage: stockyard {name}")
        assert text[0].islower()
        for action in re.findall(r"^  ([a-z]+)  ", output.partition("Commands:")[2], re.MULTILINE):
            assert main([name, action, "--help"]) == 0
            capsys.readouterr()


def test_start_takes_little_longer_than_that_of_python() -> None:
    """Compare processor time, as other processes change the elapsed time."""

    def best(*arguments: str) -> float:
        return min(_seconds([sys.executable, *arguments]) for _sample in range(3))

    best("-m", "stockyard.cli.main", "--version")
    assert best("-m", "stockyard.cli.main", "--version") < 0.25 + best("-c", "pass")


def _seconds(argv: list[str]) -> float:
    before = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID), _children()
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return _children() - before[1]


def _children() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
