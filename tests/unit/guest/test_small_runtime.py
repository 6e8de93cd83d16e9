# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's hook of a container's network is replaced by a small program that does the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.small_runtime import REPORT, RUNTIME, files

HOOK = {
    "path": "/proc/512/exe",
    "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "c" * 64, "0123456789ab"],
}


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """The runtime, which shows its arguments in place of crun."""
    return install(tmp_path)


def install(folder: Path, container_pids: int = 0) -> Path:
    """Write the runtime, and return its path."""
    path = folder / "runtime"
    text = files(container_pids)[RUNTIME].text.replace("/usr/bin/crun", "/bin/echo")
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def bundle(folder: Path, hook: dict[str, Any], environment: str = "") -> Path:
    """Write the configuration of a container, as Docker writes it."""
    config = {"process": {"env": [environment]}, "hooks": {"prestart": [hook]}}
    path = folder / "config.json"
    path.write_text(json.dumps(config, separators=(",", ":")), encoding="utf-8")
    return path


def run(runtime: Path, *arguments: str) -> str:
    return subprocess.run(
        [runtime, *arguments], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def test_docker_itself_is_replaced_as_hook(runtime: Path, tmp_path: Path) -> None:
    config = bundle(tmp_path, HOOK, environment=f"TEXT={json.dumps(HOOK)}")
    before = json.loads(config.read_text(encoding="utf-8"))
    arguments = ("--log", "a b", "create", "--bundle", str(tmp_path), "--pid-file", "pid", "c1")
    assert run(runtime, *arguments) == " ".join(arguments) + "\n"
    before["hooks"]["prestart"][0]["path"] = REPORT
    assert json.loads(config.read_text(encoding="utf-8")) == before


def test_another_hook_stays(runtime: Path, tmp_path: Path) -> None:
    config = bundle(tmp_path, {"path": "/usr/bin/hook", "args": ["libnetwork-setkey"]})
    before = config.read_bytes()
    run(runtime, "create", "--bundle", str(tmp_path), "c1")
    assert config.read_bytes() == before


def test_calls_without_a_bundle_are_passed_on(runtime: Path) -> None:
    assert run(runtime, "kill", "c1", "9") == "kill c1 9\n"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, {"limit": 200}),
        ({"pids": {"limit": 5}}, {"limit": 5}),
        ({"pids": {"limit": -1}}, {"limit": -1}),
    ],
)
def test_container_gets_the_limit_of_the_profile(
    tmp_path: Path, declared: dict[str, Any], expected: dict[str, int]
) -> None:
    """The texts of a container that look like a limit, or like the place of one, do not count."""
    config: dict[str, Any] = {
        "process": {"env": ['TEXT="pids":{"limit":5}', '"resources":{']},
        "annotations": {"pids": "{", "resources": "{"},
        "linux": {"resources": {"devices": [{"allow": False}], **declared}},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config, separators=(",", ":")), encoding="utf-8")
    run(install(tmp_path, 200), "create", "--bundle", str(tmp_path), "c1")
    config["linux"]["resources"]["pids"] = expected
    assert json.loads(path.read_text(encoding="utf-8")) == config


@pytest.mark.parametrize("answer", ["success", "failed to get sandbox"])
def test_namespace_is_reported_to_dockerd(tmp_path: Path, answer: str) -> None:
    program = tmp_path / "report"
    program.write_text(files()[REPORT].text, encoding="utf-8")
    program.chmod(0o755)
    requests: list[bytes] = []
    # The path of a socket must be short.
    folder = os.open(tmp_path, os.O_RDONLY)
    root = f"/proc/{os.getpid()}/fd/{folder}"
    (tmp_path / "libnetwork").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{root}/libnetwork/controller.sock")
        listener.listen()

        def serve() -> None:
            line = listener.accept()[0]
            with line:
                requests.append(line.recv(1280))
                line.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        process = subprocess.run(
            [program, f"-exec-root={root}", "abc", "controller"],
            input='{"ociVersion": "1.0", "id": "abc", "pid": 4242, "status": "created"}',
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        thread.join(30)
    os.close(folder)
    assert json.loads(requests[0]) == {"ContainerID": "abc", "Key": "/proc/4242/ns/net"}
    assert (process.returncode == 0) == (answer == "success")
    assert answer == "success" or process.stderr == f"{answer}\n"
