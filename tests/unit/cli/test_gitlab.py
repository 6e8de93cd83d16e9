# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard ci gitlab``: the stages of GitLab's custom executor, as the runner calls them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import Yard
from stockyard.cli import gitlab_services
from tests.helpers import service_programs, ssh_stand_in
from tests.helpers.clocks import FakeClock

from .conftest import Console

BUILD, SYSTEM = 81, 82
FLEET = ("--fleet", "ci")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the host's user, and the environment in which the runner calls a stage."""
    ssh_stand_in.install(monkeypatch, tmp_path / "bin", tmp_path / "home")
    monkeypatch.setenv("BUILD_FAILURE_EXIT_CODE", str(BUILD))
    monkeypatch.setenv("SYSTEM_FAILURE_EXIT_CODE", str(SYSTEM))
    monkeypatch.setenv("JOB_RESPONSE_FILE", str(tmp_path / "response.json"))
    write_response(tmp_path)
    return tmp_path / "home"


def write_response(folder: Path, number: int = 4711, **fields: object) -> None:
    """Write the response of GitLab about a job, as the runner does."""
    response = {
        "id": number,
        "token": "secret",
        "git_info": {"repo_url": "https://gitlab-ci-token:secret@gitlab.example:8443/x/y.git"},
        "runner_info": {"timeout": 600},
        **fields,
    }
    (folder / "response.json").write_text(json.dumps(response))


def run_stage(console: Console, tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the runner does, in a process of its own."""
    script = tmp_path / "script"
    script.write_text(text)
    process = console.start("ci", "gitlab", "run", *FLEET, str(script), "build_script")
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess((), process.returncode, output, errors)


def call(console: Console, stage: str, *words: str) -> tuple[int, str, str]:
    return console("ci", "gitlab", stage, *FLEET, *words)


def test_config_names_directories_of_the_host(
    real: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    from stockyard.cli.main import main

    assert main(["ci", "gitlab", "config"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert settings["builds_dir"].startswith("/")
    assert settings["driver"]["name"] == "stockyard"
    assert settings["builds_dir_is_shared"] is False
    assert real.leases.list() == ()
    assert main(["ci", "gitlab", "config", "--builds-dir", "builds"]) == 2


def test_job_has_one_host_from_the_preparation_to_the_cleanup(
    real: Yard, console: Console, home: Path, tmp_path: Path
) -> None:
    before = {host.uuid for host in real.hosts.list()}
    assert call(console, "prepare")[0] == 0
    (lease,) = real.leases.list()
    assert lease.holder == "gitlab job 4711 of gitlab.example"
    assert lease.until - time.time() == pytest.approx(1500, abs=60)
    first = run_stage(console, tmp_path, "echo one > state; cat; echo out; echo err >&2")
    assert (first.returncode, first.stdout) == (0, "out\n")
    assert "err\n" in first.stderr
    assert run_stage(console, tmp_path, "cat state").stdout == "one\n"
    assert [path.name for path in home.iterdir()] == ["state"]
    assert call(console, "cleanup")[0] == 0
    assert real.leases.list() == ()
    hosts = real.hosts.list()
    assert len(hosts) == 2
    assert lease.host in {host.name for host in hosts}
    assert {host.uuid for host in hosts} != before
    assert call(console, "cleanup")[0] == 0


@pytest.mark.parametrize("code", [1, 3, 137, 254, 255])
def test_failed_script_is_a_failure_of_the_build(
    real: Yard, console: Console, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_EXIT_CODE_FILE", str(tmp_path / "code"))
    call(console, "prepare")
    assert run_stage(console, tmp_path, f"exit {code}").returncode == BUILD
    assert (tmp_path / "code").read_text() == str(min(code, 254))


def test_failure_of_the_system_has_its_own_code(
    real: Yard, console: Console, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_host = run_stage(console, tmp_path, "true")
    assert without_host.returncode == SYSTEM
    assert "the job has no host" in without_host.stderr
    call(console, "prepare")
    home.rmdir()
    assert run_stage(console, tmp_path, "true").returncode == SYSTEM
    call(console, "cleanup", "--no-replace")
    real.leases.acquire("ci", holder="another")
    assert call(console, "prepare", "--wait", "1s")[0] == 0
    write_response(tmp_path, 4712)
    code, _output, errors = call(console, "prepare", "--wait", "1s")
    assert code == SYSTEM
    assert "none of the 2 matching hosts is free" in errors
    monkeypatch.delenv("JOB_RESPONSE_FILE")
    assert call(console, "prepare")[0] == SYSTEM


def test_missing_ssh_is_a_failure_of_the_system(
    real: Yard, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(console, "prepare")
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = run_stage(console, tmp_path, "true")
    assert failed.returncode == SYSTEM
    assert "ssh cannot be run" in failed.stderr


def test_author_of_a_pipeline_does_not_reach_the_host_of_another_job(
    real: Yard, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(console, "prepare")
    write_response(tmp_path, 4712)
    monkeypatch.setenv("CUSTOM_ENV_CI_JOB_ID", "4711")
    assert "the job has no host" in run_stage(console, tmp_path, "true").stderr
    assert call(console, "cleanup")[0] == 0
    (lease,) = real.leases.list()
    assert lease.holder == "gitlab job 4711 of gitlab.example"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "4711"}', '{"id": true}', "[" * 100000])
def test_response_without_a_job_is_refused(
    real: Yard, console: Console, tmp_path: Path, text: str
) -> None:
    (tmp_path / "response.json").write_text(text)
    code, _output, errors = call(console, "prepare")
    assert (code, "response of GitLab" in errors) == (SYSTEM, True)
    assert real.leases.list() == ()


@pytest.mark.parametrize(
    "response",
    [
        {"id": 7},
        {"id": 7, "git_info": {"repo_url": "http://["}, "runner_info": {"timeout": -1}},
        {"id": 7, "git_info": [], "runner_info": {"timeout": True}},
    ],
)
def test_response_can_lack_the_server_and_the_time_limit(
    real: Yard, console: Console, tmp_path: Path, response: dict[str, object]
) -> None:
    (tmp_path / "response.json").write_text(json.dumps(response))
    assert call(console, "prepare")[0] == 0
    (lease,) = real.leases.list()
    assert lease.holder == "gitlab job 7 of gitlab"
    assert lease.until - time.time() == pytest.approx(4500, abs=60)


def test_repeated_preparation_leases_one_host(real: Yard, console: Console) -> None:
    for _number in range(2):
        assert call(console, "prepare")[0] == 0
    assert len(real.leases.list()) == 1


def test_cancelled_script_ends_the_stage(
    real: Yard, console: Console, home: Path, tmp_path: Path
) -> None:
    call(console, "prepare")
    (tmp_path / "script").write_text("echo up; exec sleep 20")
    process = console.start("ci", "gitlab", "run", *FLEET, str(tmp_path / "script"), "build_script")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    # The command behind the stand-in keeps the pipes open.
    assert process.wait(15) == BUILD
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


@pytest.mark.parametrize("delay", [0.3, 0.8, 1.4])
@pytest.mark.parametrize("stage", ["prepare", "run", "cleanup"])
def test_killed_stage_leaves_nothing_after_a_reap(
    real: Yard, console: Console, uri: str, tmp_path: Path, stage: str, delay: float
) -> None:
    words: tuple[str, ...] = ()
    if stage != "prepare":
        call(console, "prepare")
    if stage == "run":
        (tmp_path / "script").write_text("sleep 1")
        words = (str(tmp_path / "script"), "build_script")
    process = console.start("ci", "gitlab", stage, *FLEET, *words)
    time.sleep(delay)
    process.kill()
    process.communicate()
    # The runner died too: there is no cleanup, and the lease ends.
    later = FakeClock(time.time() + 7200)
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=later) as yard:
        yard.reap()
        assert yard.leases.list() == ()
        assert all(host.ready for host in yard.hosts.list())
        keys = list((tmp_path / "pki").rglob("leases/*"))
        assert keys == []


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on which a program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: int) -> Path:
    """Stand-ins for the programs that start services on a host."""
    folder = tmp_path / "service-programs"
    folder.mkdir()
    service_programs.install(folder, listener)
    stand_in = ssh_stand_in.install_hosts(tmp_path / "hosts-bin", tmp_path / "homes", folder)
    monkeypatch.setenv("PATH", str(stand_in), prepend=":")
    return folder


def declare_services(monkeypatch: pytest.MonkeyPatch, *services: object) -> None:
    """Set the variable in which the runner describes services."""
    monkeypatch.setenv(gitlab_services.VARIABLE, json.dumps(services))


def test_services_are_started_with_the_host(
    real: Yard,
    console: Console,
    tmp_path: Path,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = [
        {"key": "COLOUR", "value": "raw", "public": True},
        {"key": "KEY", "value": "raw", "public": True, "file": True},
        {"key": "CI_JOB_TOKEN", "value": "secret", "public": False},
    ]
    write_response(tmp_path, variables=variables)
    for name in ("COLOUR", "KEY", "CI_JOB_TOKEN", "OTHER"):
        monkeypatch.setenv(f"CUSTOM_ENV_{name}", f"value of {name}")
    declare_services(
        monkeypatch,
        {"name": "registry.example:5000/team/redis:6", "alias": "", "entrypoint": None},
        {
            "name": "postgres",
            "alias": "db",
            "entrypoint": ["/start", "it's"],
            "command": ["$HOME"],
            "variables": {"POSTGRES_DB": "a b", "no name": "x"},
        },
    )
    assert call(console, "prepare")[0] == 0
    log = (programs / "docker.log").read_text()
    run = "run --detach --name gitlab-service"
    assert f"{run}-0 --env=COLOUR=value of COLOUR registry.example:5000/team/redis:6\n" in log
    assert (
        f"{run}-1 --env=COLOUR=value of COLOUR --env=POSTGRES_DB=a b --entrypoint /start postgres "
        "it's $HOME\n"
    ) in log
    assert (programs / "hosts").read_text() == (
        "127.0.0.1 registry.example__team__redis registry.example-team-redis # gitlab-service-0\n"
        "127.0.0.1 db postgres # gitlab-service-1\n"
    )
    assert "secret" not in log
    assert "CI_JOB_TOKEN" not in log
    assert call(console, "cleanup")[0] == 0


def test_service_that_cannot_be_started_is_a_failure_of_the_system(
    real: Yard, console: Console, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_services(monkeypatch, {"name": "broken"})
    code, _output, errors = call(console, "prepare")
    assert code == SYSTEM
    assert "the services of the job cannot be started" in errors
    assert call(console, "cleanup")[0] == 0
    assert real.leases.list() == ()


@pytest.mark.parametrize(
    "services",
    [
        "nonsense",
        '{"name": 1}',
        "[1]",
        "[{}]",
        '[{"name": "-v"}]',
        '[{"name": "a", "alias": "b\\n"}]',
    ],
)
def test_services_in_another_form_are_refused(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, services: str
) -> None:
    monkeypatch.setenv(gitlab_services.VARIABLE, services)
    code, _output, errors = call(console, "prepare")
    assert (code, "the services of the job cannot be read" in errors) == (SYSTEM, True)
    assert real.leases.list() == ()
