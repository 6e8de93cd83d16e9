# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that list hosts, reach them and change them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stockyard import RefusedDestination, VolumeSpec, Yard
from stockyard.cli import logs
from stockyard.cli import main as command_line
from stockyard.cli.command import Program
from stockyard.clients.hosts import HostsClient
from stockyard.hypervisor.facts import MachineFacts
from stockyard.providers.memory.provider import MemoryProvider

from .conftest import Console


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    """The programs that would replace the command."""
    programs: list[Program] = []

    def execute(program: Program) -> int:
        programs.append(program)
        return 0

    monkeypatch.setattr(command_line, "execute", execute)
    return programs


def test_hosts_are_listed_in_columns_and_as_json(real: Yard, console: Console) -> None:
    code, output, errors = console("ls")
    heading, *lines = output.splitlines()
    assert (code, errors) == (0, "")
    assert heading.split() == ["NAME", "STATE", "READY", "FLEET", "TEMPLATE", "ADDRESS", "LEASE"]
    address = real.hosts.get("ci-1").address
    assert lines[0].split() == ["ci-1", "running", "yes", "ci", "base", address, "free"]
    assert len(lines) == 2
    assert [host["name"] for host in console.json("ls")] == ["ci-1", "ci-2"]
    assert console.json("ls", "--fleet", "web") == []
    assert console("ls", "--fleet", "web") == (0, "", "stockyard: no hosts\n")


def test_holder_of_a_lease_is_listed(real: Yard, console: Console) -> None:
    real.leases.acquire("ci", holder="job-17")
    assert "job-17" in console("ls")[1]


def test_one_host_is_shown(real: Yard, console: Console) -> None:
    facts = real.hosts.get("ci-1").to_dict()
    assert console.json("show", "ci-1") == facts
    code, output, _errors = console("show", "ci-1")
    assert code == 0
    assert f"docker.endpoint {facts['docker']['endpoint']}" in " ".join(output.split())


def test_refused_destinations_and_an_uplink_that_has_ended_are_shown(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = MemoryProvider.facts

    def facts(provider: MemoryProvider, record: Any) -> MachineFacts:
        refused = (RefusedDestination("telemetry.example.org", "dns", 0, 12),)
        return replace(read(provider, record), refused=refused, uplink_ended=True)

    monkeypatch.setattr(MemoryProvider, "facts", facts)
    output = " ".join(console("show", "ci-1")[1].split())
    assert "refused destination=telemetry.example.org protocol=dns port=0 count=12" in output
    assert "drift the process of its uplink has ended" in output
    assert real.hosts.get("ci-1").ready


@pytest.mark.parametrize(
    "words",
    [
        ("show", "web-9"),
        ("ssh", "web-9"),
        ("exec", "web-9", "--", "true"),
        ("cp", "file", "web-9:/tmp"),
        ("docker", "web-9"),
        ("tunnel", "web-9", "80"),
        ("logs", "web-9"),
        ("console", "web-9"),
    ],
)
def test_unknown_host_is_reported(
    real: Yard, console: Console, programs: list[Program], words: tuple[str, ...]
) -> None:
    code, output, errors = console(*words)
    assert (code, output) == (125 if words[0] in ("ssh", "exec", "docker") else 1, "")
    assert "host web-9: the host does not exist. Cause: owner stockyard has ci-1, ci-2." in errors
    assert not programs


def test_command_runs_over_ssh_with_the_pinned_key(
    real: Yard, console: Console, programs: list[Program]
) -> None:
    assert console("exec", "ci-1", "--", "sh", "-c", "echo $HOME; false")[0] == 0
    (program,) = programs
    ssh = real.hosts.get("ci-1").ssh
    assert program.argv[:3] == ("ssh", "-p", str(ssh.port))
    assert program.argv[-3:] == ("--", f"{ssh.user}@{ssh.host}", "sh -c 'echo $HOME; false'")
    options = " ".join(program.argv)
    assert "StrictHostKeyChecking=yes" in options
    assert f"-i {ssh.private_key}" in options
    (known_hosts,) = (word for word in program.argv if word.startswith("UserKnownHostsFile="))
    assert f"{ssh.host}" in Path(known_hosts.partition("=")[2]).read_text()


def test_words_after_the_host_belong_to_the_command(
    uri: str, real: Yard, console: Console, programs: list[Program]
) -> None:
    for words in (
        ["exec", *console.where, "ci-1", "git", "log", "--", "--quiet"],
        ["exec", "ci-1", *console.where, "--quiet", "git", "log", "--", "--quiet"],
        ["exec", "ci-1", *console.where, "--", "git", "log", "--", "--quiet"],
    ):
        assert command_line.main(words) == 0
        assert programs[-1].argv[-1] == "git log -- --quiet"


def test_ssh_finds_each_host_by_its_name(real: Yard, console: Console) -> None:
    code, output, _errors = console("ssh-config")
    facts = real.hosts.get("ci-1").ssh
    config = console.json("ssh-config")
    assert (code, f"{output}") == (0, config["content"])
    argv = ["ssh", "-F", config["path"], "-G", "ci-1"]
    settings = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in (
        f"hostname {facts.host}",
        f"port {facts.port}",
        f"user {facts.user}",
        f"identityfile {facts.private_key}",
        "identitiesonly yes",
        "stricthostkeychecking true",
        "globalknownhostsfile /dev/null",
    ):
        assert line in settings
    (known_hosts,) = (line.split()[1] for line in settings if line.startswith("userknownhosts"))
    assert f"[{facts.host}]:{facts.port} " in Path(known_hosts).read_text()
    assert console("ssh-config", "--include")[1] == config["include"]
    user_config = Path(config["path"]).with_name("user_config")
    user_config.write_text(f"Host another\n    Port 7\n{config['include']}")
    argv = ["ssh", "-F", str(user_config), "-G", "ci-2"]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert f"hostname {real.hosts.get('ci-2').ssh.host}\n" in output
    assert facts.config == config["path"]


def test_entry_for_ssh_vanishes_with_its_host(real: Yard, console: Console) -> None:
    path = Path(real.hosts.get("ci-1").ssh.config)
    (entries,) = path.with_name("ssh_config.d").iterdir()
    assert "Host ci-1\n" in entries.read_text()
    real.hosts.delete("ci-1")
    assert "Host ci-1\n" not in entries.read_text()
    assert "Host ci-2\n" in entries.read_text()
    real.teardown()
    assert entries.read_text() == ""
    assert console("ssh-config")[:2] == (0, "")


def test_login_has_no_command(real: Yard, console: Console, programs: list[Program]) -> None:
    assert console("ssh", "ci-2")[0] == 0
    ssh = real.hosts.get("ci-2").ssh
    assert programs[0].argv[-2:] == ("--", f"{ssh.user}@{ssh.host}")


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("page.html", "a:b", "ci-1:/tmp/"), ()),
        (("page.html", "dir/a:b", "ci-1:/tmp/"), ("./page.html", "./dir/a:b", "{ci-1}:/tmp/")),
        (("ci-1:/var/log", "/srv"), ("{ci-1}:/var/log", "/srv")),
        (("ci-1:a", "ci-2:b"), ()),
        (("ci-1:a", "ci-1:b"), ()),
        (("a", "b"), ()),
        (("ci-1:a",), ()),
    ],
)
def test_files_are_copied_in_one_direction(
    real: Yard,
    console: Console,
    programs: list[Program],
    paths: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    code, _output, errors = console("cp", *paths)
    if not words:
        assert (code, "exactly one host" in errors) == (2, True)
        return
    ssh = real.hosts.get("ci-1").ssh
    targets = [word.replace("{ci-1}", f"{ssh.user}@{ssh.host}") for word in words]
    assert code == 0
    assert list(programs[0].argv[-len(words) - 1 :]) == ["--", *targets]
    assert programs[0].argv[0] == "scp"


def test_client_of_docker_gets_the_environment_of_the_host(
    real: Yard, console: Console, programs: list[Program]
) -> None:
    docker = real.hosts.get("ci-1").docker
    assert console("docker", "ci-1", "--", "ps", "-a")[0] == 0
    assert programs == [Program(("docker", "ps", "-a"), docker.environment)]
    assert console("docker", "ci-1")[1] == f"{docker.context}\n"
    assert console("docker", "ci-1", "--env")[1] == f"{docker.export}\n"
    assert console.json("docker", "ci-1") == {
        "endpoint": docker.endpoint,
        "environment": docker.environment,
    }


def test_tunnel_forwards_the_loopback_only(
    real: Yard, console: Console, programs: list[Program]
) -> None:
    assert console("tunnel", "ci-1", "8080:80")[0] == 0
    assert "127.0.0.1:8080:127.0.0.1:80" in programs[0].argv
    assert "127.0.0.1:8080 leads to port 80 of ci-1" in programs[0].progress
    for ports in ("0", "80:", "a", "1:70000", "\uff18\uff10"):
        assert console("tunnel", "ci-1", ports)[0] == 2


def test_logs_come_from_the_journal_or_a_container(
    real: Yard, console: Console, programs: list[Program]
) -> None:
    console("logs", "ci-1", "-n", "5", "--unit", "docker")
    console("logs", "ci-1", "-f", "--container", "web")
    journal, container = (program.argv[-1] for program in programs)
    assert journal == "sudo -n journalctl --no-pager --lines 5 --unit docker"
    assert container == "sudo -n docker logs --tail 100 --follow -- web"


def test_console_log_is_printed_without_what_a_terminal_obeys(
    real: Yard, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _output, errors = console("console", "ci-1")
    assert (code, "the hypervisor keeps no console log" in errors) == (1, True)
    log = tmp_path / "ci-1.log"
    host = replace(real.hosts.get("ci-1"), console_log=str(log))
    monkeypatch.setattr(HostsClient, "get", lambda *_arguments: host)
    code, _output, errors = console("console", "ci-1")
    assert (code, "this machine has no such console log" in errors) == (1, True)
    log.write_bytes(b"one\r\ntwo \x1b]0;owned\x07\r\nthree")
    assert console("console", "ci-1")[1] == "one\ntwo \\x1b]0;owned\\x07\nthree\n"
    assert console("console", "ci-1", "-n", "1")[1] == "three\n"
    assert console("console", "ci-1", "-n", "0")[1] == ""
    log.write_bytes(b"one\ntwo\n")
    assert console("console", "ci-1", "-n", "1")[1] == "two\n"


def test_new_lines_of_the_console_log_are_printed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "ci-1.log"
    log.write_bytes(b"one\ntwo\n\xc3")
    parts = iter([b"\xa9\n", b"x" * 20, b"end\n"])

    def write(_seconds: float) -> None:
        with log.open("ab") as file:
            file.write(next(parts))

    monkeypatch.setattr("time.sleep", write)
    monkeypatch.setattr(logs, "MOST_BYTES", 12)
    lines = logs._last_lines(log, 1, follow=True)
    assert list(islice(lines, 4)) == ["two", "\u00e9", "x" * 20, "end"]


def test_colours_appear_on_a_terminal_only(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in console("ls")[1]
    monkeypatch.setattr("stockyard.cli.say.is_terminal", lambda _stream: True)
    lines = [line.split() for line in console("ls")[1].splitlines()]
    assert "\x1b[32mrunning\x1b[0m" in lines[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in console("ls")[1]


def test_suspended_host_is_not_reached(
    real: Yard, console: Console, programs: list[Program]
) -> None:
    assert console("host", "suspend", "ci-1")[0] == 0
    code, _output, errors = console("exec", "ci-1", "--", "true")
    assert code == 125
    assert "it is suspended. Remedy: resume it with stockyard host resume ci-1." in errors
    assert not programs


def test_program_that_is_missing_is_reported(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _output, errors = console("ssh", "ci-1")
    assert (code, "stockyard: ssh: No such file" in errors) == (127, True)


def test_interrupted_command_ends_without_a_traceback(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_yard: Yard) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Yard, "listing", interrupt)
    code, output, errors = console("ls")
    assert (code, output, errors.strip()) == (130, "", "")


def test_exit_code_is_that_of_the_program(real: Yard, console: Console, tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "ssh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = console.start("exec", "ci-1", "--", "true", env=environment)
    process.communicate(timeout=60)
    assert process.returncode == 7


@pytest.mark.parametrize("container", [(), ("--container", "web")])
def test_logs_cannot_control_the_terminal_of_the_user(
    real: Yard, console: Console, tmp_path: Path, container: tuple[str, ...]
) -> None:
    lines = (
        "#!/bin/sh",
        r"printf 'a\033]0;x\007b \303\274\n'",
        r"printf 'c\302\233d\377' >&2",
        "exit 7",
    )
    (tmp_path / "ssh").write_text("\n".join(lines))
    (tmp_path / "ssh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    reader, terminal = os.openpty()
    words = console.line("logs", "ci-1", *container)
    command = [sys.executable, "-m", "stockyard.cli.main", *words]
    completed = subprocess.run(command, stdout=terminal, env=environment, timeout=60, check=False)
    os.close(terminal)
    output = os.read(reader, 1 << 16)
    os.close(reader)
    assert completed.returncode == 7
    assert (b"\x1b" in output, b"\x07" in output, b"\xc2\x9b" in output) == (False, False, False)
    first, second = output.decode().split("\r\n")[:2]
    assert (first[:1], first[-3:], second[:1]) == ("a", "b \u00fc", "c")
    # A pipe gets the bytes as they are.
    piped = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    assert piped.stdout.startswith(b"a\x1b]0;x\x07b")


def test_single_host_is_created_changed_and_deleted(real: Yard, console: Console) -> None:
    real.volumes.apply(VolumeSpec("data", size_gib=1))
    create = ("host", "create", "box", "--template", "base", "--port", "8080", "--label", "a=b")
    assert console(*create, "--dry-run")[1].startswith("would create host box: ")
    assert console(*create, "--ttl", "2h", "--volume", "data=/data")[0] == 0
    box = real.hosts.get("box")
    assert (box.ports, box.labels, box.volumes[0].path) == ((8080,), {"a": "b"}, "/data")
    assert box.expires
    for verb in ("restart", "replace"):
        assert console("host", verb, "box")[1].startswith(f"{verb} host box: ")
    answer = console.json("host", "delete", "box", "ci-2")
    assert (answer["changed"], len(answer["plan"]), answer["hosts"]) == (True, 2, [])
    assert [host.name for host in real.hosts.list()] == ["ci-1"]
    assert console.json("host", "delete", "box")["changed"] is False


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("host", "create", "box"), 2, "--template"),
        (("host", "create", "box", "--template", "none"), 1, "template"),
        (("host", "create", "box", "--template", "base", "--port", "x"), 2, "--port"),
        (("host", "create", "box", "--template", "base", "--volume", "x"), 2, "NAME"),
        (("host", "create", "A B", "--template", "base"), 2, "host"),
        (("host", "delete"), 2, "NAME"),
        (("host", "suspend"), 2, "no host was named"),
        (("host", "restart", "none"), 1, "does not exist"),
        (("logs", "ci-1", "--lines", "-1"), 2, "--lines: -1 is negative"),
        (("console", "ci-1", "--lines", "-1"), 2, "--lines: -1 is negative"),
        (("host",), 2, "usage"),
        ((), 2, "usage: stockyard"),
    ],
)
def test_invalid_changes_are_refused(
    real: Yard, console: Console, words: tuple[str, ...], code: int, text: str
) -> None:
    if words:
        exit_code, output, errors = console(*words)
    else:
        console.capsys.readouterr()
        exit_code = command_line.main([])
        output, errors = console.capsys.readouterr()
    assert (exit_code, output) == (code, "")
    assert text in errors
    assert len(real.hosts.list()) == 2


def test_reader_that_closes_the_output_is_no_traceback(real: Yard, console: Console) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "stockyard.cli.main", *console.line("ls")]
    result = subprocess.run(
        argv,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")
