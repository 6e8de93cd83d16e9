# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard lease``: what it prints, what it ends with, and that a command never outlives its
lease.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stockyard import FleetSpec, StockyardError, Unsupported, Yard
from stockyard.cli import run
from stockyard.resources.hosts import host_lifecycle
from stockyard.resources.leases import keep_host, lease_lifecycle
from tests.helpers.clocks import BriskClock

from .conftest import Console

TAKE = ("lease", "take", "--fleet", "ci", "--holder", "me")
EXEC = ("lease", "exec", "--fleet", "ci", "--holder", "me")
NAMES = "('DOCKER_HOST', 'STOCKYARD_LEASE', 'DOCKER_CERT_PATH')"
SHOW = f"import os; print(*(os.environ[name] for name in {NAMES}))"


def shell(text: str, script: str) -> str:
    """Return the output of a POSIX shell that evaluates the command's output."""
    result = subprocess.run(
        ["sh", "-euc", f"{text}\n{script}"], capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_a_shell_takes_the_environment(real: Yard, console: Console) -> None:
    code, output, errors = console(*TAKE, "--duration", "10m")
    assert code == 0
    assert output.count("\n") == 1
    assert "leased by me until" in errors
    (facts,) = real.leases.list()
    words = shell(
        output, 'echo "$STOCKYARD_LEASE $DOCKER_HOST $DOCKER_TLS_VERIFY"; ls "$DOCKER_CERT_PATH"'
    )
    assert words == f"{facts.id} {facts.docker.endpoint} 1\nca.pem\ncert.pem\nkey.pem"
    assert console("lease", "env", facts.id)[1] == output
    assert console("lease", "renew", facts.id, "--duration", "2h")[0] == 0
    assert real.leases.list()[0].until - time.time() > 7100
    assert console("lease", "release", facts.id)[0] == 0
    assert real.leases.list() == ()
    assert len(real.hosts.list()) == 1


@pytest.mark.parametrize("branches", [True, False])
def test_host_of_a_failed_command_is_kept_until_its_time_is_over(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, branches: bool
) -> None:
    if not branches:
        monkeypatch.setattr(keep_host, "HostBranching", Unbranchable)
    names = {host.name for host in real.hosts.list()}
    code, output, errors = console(*EXEC, "--keep-on-failure", "2h", "--", "sh", "-c", "exit 3")
    assert (code, output) == (3, "")
    (kept_host,) = (host for host in real.hosts.list() if host.state == "suspended")
    assert (kept_host.name in names) is not branches
    assert (kept_host.fleet, "-kept-" in kept_host.name) == (
        ("", True) if branches else ("ci", False)
    )
    # A host that is kept under its own name has no replacement.
    assert len(real.hosts.list()) == len(names) + branches
    assert kept_host.lease
    assert kept_host.lease.holder == "me"
    assert 7100 < kept_host.lease.until - time.time() <= 7200
    assert f"host {kept_host.name} has the state of the failed command" in errors
    assert f"resume: stockyard host resume {kept_host.name} --tenant default\n" in errors
    assert f"enter: {kept_host.ssh.command}\n" in errors
    assert console("host", "resume", kept_host.name)[0] == 0
    assert real.hosts.get(kept_host.name).ready
    assert console("lease", "release", kept_host.lease.id)[0] == 0
    assert len(real.hosts.list()) == len(names) - (not branches)


@pytest.mark.parametrize(
    "script", ["exit 0", "kill -TERM $$", "kill -INT $$"], ids=["success", "ended", "interrupted"]
)
def test_host_of_a_command_that_did_not_fail_is_released(
    real: Yard, console: Console, script: str
) -> None:
    count = len(real.hosts.list())
    console(*EXEC, "--keep-on-failure", "2h", "--", "sh", "-c", script)
    assert [host.state for host in real.hosts.list()] == ["running"] * count


def test_host_that_fails_to_suspend_is_released_by_the_command(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise StockyardError("no space.")

    count = len(real.hosts.list())
    monkeypatch.setattr(keep_host, "keep", refuse)
    code, _output, errors = console(*EXEC, "--keep-on-failure", "2h", "--", "sh", "-c", "exit 3")
    assert code == 3
    assert "the host is not kept: no space." in errors
    assert len(real.hosts.list()) == count


class Unbranchable:
    """A branch of a host that cannot be branched."""

    def __init__(self, *_arguments: Any) -> None: ...

    def apply(self, _deadline: Any) -> None:
        raise Unsupported("no branches here.")


def test_path_with_special_characters_is_quoted_for_the_shell(
    uri: str, tmp_path: Path, real: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / 'it\'s $(touch x) `y`; "z"'
    home.mkdir()
    (tmp_path / "pki").rename(home / "pki")
    console = Console(uri, home, capsys)
    _code, output, _errors = console(*TAKE)
    assert shell(output, 'printf %s "$DOCKER_CERT_PATH"').startswith(str(home / "pki"))


def test_the_lease_is_known_by_the_environment(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = console.json(*TAKE)
    assert facts == real.leases.list()[0].to_dict()
    assert console("lease", "release")[0] == 2
    monkeypatch.setenv("STOCKYARD_LEASE", facts["id"])
    assert console("lease", "env")[0] == 0
    assert console("lease", "release", "--replace")[0] == 0
    assert len(real.hosts.list()) == 2
    assert console("lease", "env")[0] == 3
    assert console("lease", "renew")[0] == 3
    # A second release succeeds.
    assert console("lease", "release")[0] == 0


def test_changes_of_a_lease_are_printed_as_json(real: Yard, console: Console) -> None:
    lease = console.json(*TAKE)["id"]
    assert console.json("lease", "env", lease) == real.leases.get(lease).to_dict()
    renewed = console.json("lease", "renew", lease, "--duration", "3h")
    assert renewed["changed"] is True
    assert renewed["leases"] == [real.leases.get(lease).to_dict()]
    assert console.json("lease", "suspend", lease)["plan"] != []
    assert console.json("lease", "resume", lease)["leases"][0]["id"] == lease
    released = console.json("lease", "release", lease)
    assert (released["changed"], released["leases"]) == (True, [])
    assert console.json("lease", "release", lease)["changed"] is False


@pytest.mark.parametrize("action", ["release", "renew", "env"])
def test_number_of_another_yard_is_an_error(real: Yard, console: Console, action: str) -> None:
    code, output, errors = console("lease", action, "11111111-2222-4333-8444-555555555555")
    assert code == 1
    assert output == ""
    assert "the yard has no lease with this number" in errors


def test_leases_are_listed(real: Yard, console: Console) -> None:
    facts = console.json(*TAKE)
    _code, output, _errors = console("lease", "list")
    assert facts["id"] in output
    assert f"ci/{facts['host']}  me" in output
    assert console.json("lease", "list", "--holder", "me") == [facts]
    assert console.json("lease", "list", "--holder", "you") == []


def test_user_without_a_name_holds_a_lease_by_number(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    holder = console.json("lease", "take", "--fleet", "ci")["holder"]
    assert holder == f"54321@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("words", "code", "say"),
    [
        (("lease", "take"), 2, "the request selects no hosts"),
        (("lease", "take", "--fleet", "web"), 1, "no host matches"),
        (("lease", "take", "--label", "x"), 2, "KEY=VALUE"),
        ((*TAKE, "--duration", "soon"), 2, "is not a duration"),
        ((*TAKE, "--duration", "5"), 2, "5 has no unit. Remedy: write 5s, 5m, 5h or 5d"),
        ((*TAKE, "--wait", "5"), 2, "--wait: 5 has no unit"),
        (("lease", "renew", "x", "--duration", "5"), 2, "5 has no unit"),
        ((*EXEC, "--keep-on-failure", "2", "--", "true"), 125, "--keep-on-failure: 2 has no unit"),
        (("branch", "ci-1", "a", "--ttl", "2"), 2, "--ttl: 2 has no unit"),
        (("reap", "--grace", "30"), 2, "--grace: 30 has no unit"),
        ((*TAKE, "--ca-certificate", "/does/not/exist"), 2, "cannot be read"),
        (("lease",), 2, "usage"),
        (("fly",), 2, "usage"),
        (("lease", "exec", "--fleet", "web", "--", "true"), 125, "no host matches"),
    ],
)
def test_invalid_arguments_are_reported_and_change_nothing(
    real: Yard, console: Console, words: tuple[str, ...], code: int, say: str
) -> None:
    before = real.hosts.list()
    exit_code, output, errors = console(*words)
    assert (exit_code, output) == (code, "")
    assert say in errors
    assert real.hosts.list() == before


def test_missing_free_host_is_reported(real: Yard, console: Console) -> None:
    for _number in range(2):
        console(*TAKE)
    code, output, errors = console(*TAKE, "--wait", "1s")
    assert (code, output) == (4, "")
    assert "fleet ci: waiting for a host; no request is ahead" in errors
    assert "fleet ci has 2 of at most 2 hosts" in errors
    assert "none of the 2 matching hosts is free" in errors


def test_command_has_the_environment_and_its_host_is_released(real: Yard, console: Console) -> None:
    process = console.start(*EXEC, "--", sys.executable, "-c", f"{SHOW}; raise SystemExit(7)")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 7, errors
    endpoint, number, folder = output.split()
    assert endpoint.startswith("tcp://127.")
    assert number in folder
    assert not Path(folder).exists()
    assert real.leases.list() == ()
    assert len(real.hosts.list()) == 2


def test_host_is_not_replaced_on_request(real: Yard, console: Console) -> None:
    assert console(*EXEC, "--no-replace", "--", "true")[0] == 0
    assert (real.leases.list(), len(real.hosts.list())) == ((), 1)


def test_host_that_cannot_be_replaced_is_deleted(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise StockyardError("no space.")

    monkeypatch.setattr(host_lifecycle, "create_host", refuse)
    code, _output, errors = console(*EXEC, "--", "sh", "-c", "exit 3")
    assert code == 3
    assert "not replaced: no space." in errors
    assert (real.leases.list(), len(real.hosts.list())) == ((), 1)
    monkeypatch.setattr(lease_lifecycle, "_check_replacement", refuse)
    code, _output, errors = console(*EXEC, "--", "sh", "-c", "exit 3")
    assert code == 3
    assert real.hosts.list() == ()


def test_lease_waits_until_its_fleet_has_another_host(real: Yard, console: Console) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=2, max=3))
    for _number in range(2):
        assert console(*TAKE)[0] == 0
    code, _output, errors = console(*EXEC, "--wait", "--", "true")
    assert code == 0
    assert "fleet ci: creating 1 hosts for 1 leases that wait" in errors


@pytest.mark.parametrize(("command", "code"), [("/does/not/exist", 127), ("/etc/passwd", 126)])
def test_command_that_cannot_start_releases_its_host_with_an_error(
    real: Yard, console: Console, command: str, code: int
) -> None:
    process = console.start(*EXEC, "--", command)
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert command in errors
    assert [h.lease for h in real.hosts.list()] == [None, None]


def test_a_lease_is_kept_for_as_long_as_the_command_runs(real: Yard, console: Console) -> None:
    process = console.start(*EXEC, "--duration", "1s", "--", "sleep", "3")
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_signal_ends_the_command_and_releases_the_host(real: Yard, console: Console) -> None:
    process = console.start(*EXEC, "--", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert real.leases.list() == ()
    assert len(real.hosts.list()) == 2


def test_signal_during_the_start_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().__init__(*arguments, **more)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    lease: Any = SimpleNamespace(id="1", environment={}, until=time.time() + 60)
    assert run.run(lease, ["sleep", "60"], BriskClock()) == 128 + signal.SIGTERM


def test_a_command_ends_when_its_lease_is_lost(real: Yard, console: Console) -> None:
    process = console.start(*EXEC, "--duration", "3s", "--", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    real.hosts.delete(real.leases.list()[0].host)
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 124
    assert "the lease has expired" in errors


def test_holder_paused_beyond_the_end_changes_nothing(real: Yard, console: Console) -> None:
    process = console.start(*EXEC, "--duration", "2s", "--", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    (lease,) = real.leases.list()
    os.kill(process.pid, signal.SIGSTOP)
    while time.time() < lease.until:
        time.sleep(0.1)
    real.hosts.replace(lease.host)
    other_leases = [real.leases.acquire("ci", holder="other").info for _number in range(2)]
    before = real.hosts.list()
    os.kill(process.pid, signal.SIGCONT)
    _output, errors = process.communicate(timeout=60)
    assert process.returncode == 124
    assert "the lease has expired" in errors
    assert real.hosts.list() == before
    assert lease.host in {o.host for o in other_leases}


def test_the_line_is_quoted_for_a_shell() -> None:
    from stockyard.model.access_info import export_line

    assert shlex.split(export_line({"A": "it's", "B": ""})) == ["export", "A=it's", "B="]
