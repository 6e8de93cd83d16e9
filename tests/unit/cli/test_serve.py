# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard project``, and ``stockyard lease`` with a lease service instead of a yard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import Yard
from stockyard.cli.main import main
from tests.helpers.running_daemon import Running

SHOW = "import os; print(os.environ['DOCKER_HOST'], os.listdir(os.environ['DOCKER_CERT_PATH']))"


@pytest.fixture
def daemon(real: Yard, uri: str, tmp_path: Path) -> Iterator[Running]:
    """A daemon for the yard that is not started yet."""
    running = Running(uri, tmp_path)
    yield running
    running.kill()


def test_project_gets_a_token_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ["--file", str(tmp_path / "projects.json")]
    assert main(["project", "add", "web", "--fleet", "ci", "--max-duration", "2h", *file]) == 0
    token = capsys.readouterr().out.strip()
    assert token not in (tmp_path / "projects.json").read_text()
    token_file = tmp_path / "api.token"
    assert (
        main(["project", "add", "api", "--pool", "p", "--token-file", str(token_file), *file]) == 0
    )
    assert token_file.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert main(["project", "ls", "--json", *file]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(item["name"], item["max_duration"]) for item in listed] == [
        ("web", 7200.0),
        ("api", 3600.0),
    ]
    assert "digest" not in listed[0]
    assert main(["project", "remove", "web", *file]) == 0
    assert main(["project", "remove", "web", *file]) == 1
    assert main(["project", "add", "none", *file]) == 2


def test_former_token_stays_valid_if_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    projects = tmp_path / "projects.json"
    add = ["project", "add", "web", "--fleet", "ci", "--file", str(projects)]
    assert main(add) == 0
    before = projects.read_text()
    assert main([*add, "--token-file", str(tmp_path / "missing" / "token")]) != 0
    assert projects.read_text() == before


def test_lease_needs_no_access_to_the_hypervisor(
    real: Yard,
    daemon: Running,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tmp_path / "web.token"
    file = str(daemon.tokens)
    add = ["project", "add", "web", "--fleet", "ci", "--max-leases", "3", "--file", file]
    assert main([*add, "--token-file", str(token)]) == 0
    daemon.start()
    monkeypatch.setenv("HOME", str(tmp_path / "holder"))
    monkeypatch.setenv("STOCKYARD_HYPERVISOR", "memory:///nonexistent/hypervisor")
    service = ["--service", f"unix://{daemon.socket}", "--token-file", str(token)]
    capfd.readouterr()
    assert main(["lease", "take", "--fleet", "ci", *service, "--json"]) == 0
    lease = json.loads(capfd.readouterr().out)
    (info,) = real.leases.list()
    assert (lease["id"], info.holder.startswith("web/")) == (info.id, True)
    command = [sys.executable, "-c", SHOW]
    assert main(["lease", "exec", "--fleet", "ci", "--wait", "30s", *service, "--", *command]) == 0
    assert "key.pem" in capfd.readouterr().out
    monkeypatch.setenv("STOCKYARD_SERVICE", service[1])
    monkeypatch.setenv("STOCKYARD_TOKEN_FILE", str(token))
    assert main(["lease", "env", lease["id"]]) == 0
    assert capfd.readouterr().out.startswith(f"export STOCKYARD_LEASE={lease['id']} DOCKER_HOST=")
    assert main(["lease", "renew", lease["id"], "--duration", "50m", "--json"]) == 0
    renewed = json.loads(capfd.readouterr().out)["leases"][0]
    assert renewed["id"] == lease["id"]
    assert main(["lease", "env", lease["id"], "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == renewed
    assert main(["lease", "list"]) == 0
    assert lease["id"] in capfd.readouterr().out
    assert main(["lease", "take", "--fleet", "other"]) == 1
    assert "the project cannot lease these hosts" in capfd.readouterr().err
    assert main(["lease", "exec", "--fleet", "ci", "--sync", ".", "--", "true"]) == 125
    assert main(["lease", "release", lease["id"], "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["leases"] == []
    assert main(["lease", "renew", lease["id"]]) == 3
    assert real.leases.list() == ()
    token.chmod(0o644)
    assert main(["lease", "list"]) == 2
    assert "other users can read" in capfd.readouterr().err


def test_service_without_a_token_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lease", "list", "--service", "unix:///nonexistent"]) == 2
    assert "--token-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--listen", "192.0.2.1"), ("--listen", "127.0.0.1:x"), ("--interval", "5")]
)
def test_invalid_options_of_serve_are_refused(uri: str, words: tuple[str, str]) -> None:
    assert main(["serve", "--hypervisor", uri, *words]) == 2
