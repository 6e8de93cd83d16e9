# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of secret options during the creation of a real host: not on the hypervisor, not in the
guest, not in output.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockyard import HostInfo, TemplateInfo, Yard
from stockyard.clock import SystemClock
from stockyard.model import codec
from stockyard.pki.authority import Authority
from tests.helpers.canary import Watch, holders
from tests.integration.conftest import Controller, Played, task

from .conftest import OWNER, WORK, ssh
from .guest_controller import SESSION
from .test_secrets import pieces

pytestmark = [pytest.mark.real, pytest.mark.full]
CANARY = f"canary-{os.urandom(16).hex()}"


@pytest.fixture(scope="module")
def canaries() -> dict[str, str]:
    """A CA of the test's own and other secrets, as options."""
    canary_run = Authority.create("theirs", datetime.fromtimestamp(SystemClock().now(), UTC))
    ca = {"ca_certificate": canary_run.pem(), "ca_private_key": canary_run.key_pem()}
    return {
        "username": "me",
        "password": f"{CANARY}-password",
        "volume_key": f"{CANARY}-of-volumes",
        **ca,
    }


@pytest.fixture(scope="module")
def secrets(canaries: dict[str, str]) -> list[str]:
    return [CANARY, *canaries["ca_private_key"].splitlines()[1:-1]]


@pytest.fixture(scope="module")
def canary_run(
    yard: Yard,
    template: TemplateInfo,
    canaries: dict[str, str],
    secrets: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Played, Watch, Path]]:
    """A host, and the same restarted."""
    root = tmp_path_factory.mktemp("canary")
    pki = root / "pki"
    at = {
        "hypervisor": "qemu:///session",
        "owner": OWNER,
        "storage": str(WORK / "store"),
        "pki_dir": str(pki),
    }
    steps = [
        task("host", "host", name="canary", template="docker", **at, **canaries),
        task("restart", "host", name="canary", state="restarted", **at, **canaries),
    ]
    controller = Controller(root / "controller")
    with Watch(secrets) as watch:
        played = controller.play(steps, "-vvvv", environment=SESSION)
    yield played, watch, root
    yard.hosts.delete("canary")


def test_host_is_created_with_canaries_in_all_secret_options(
    canary_run: tuple[Played, Watch, Path],
) -> None:
    played, watch, _root = canary_run
    assert played["host"]["changed"], played["host"]["msg"]
    assert played["restart"]["changed"], played.output[-3000:]
    assert watch.looks > 20


def test_they_are_in_no_output_no_process_and_no_file(
    canary_run: tuple[Played, Watch, Path], secrets: list[str]
) -> None:
    played, watch, root = canary_run
    assert [s for s in secrets if s in played.output] == []
    assert watch.seen == set()
    assert holders(root, secrets, "playbook.yml") == []


def test_they_are_not_on_the_hypervisor(
    canary_run: tuple[Played, Watch, Path], secrets: list[str]
) -> None:
    line = [
        "virsh",
        "-c",
        "qemu:///session",
        "dumpxml",
        "--security-info",
        f"{OWNER}.default.canary",
    ]
    domain = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert "canary" in domain
    store = [Path(f, name) for f, _folders, names in os.walk(WORK / "store") for name in names]
    logs = [p for p in (Path.home() / ".cache" / "libvirt").rglob("*.log") if p.is_file()]
    assert logs
    texts = [s.encode() for s in secrets]
    for path in [p for p in (*store, *logs) if p.is_file() and not p.is_symlink()]:
        assert not any(text in piece for piece in pieces(path) for text in texts), path
    assert not any(secret in domain for secret in secrets)


def test_they_are_not_in_the_guest(
    canary_run: tuple[Played, Watch, Path], secrets: list[str]
) -> None:
    host = codec.from_dict(HostInfo, canary_run[0]["restart"]["host"])
    output = ssh(
        host,
        "sudo journalctl --no-pager; sudo dmesg; ps -eo args; sudo sh -c 'cat "
        "/proc/[0-9]*/environ' 2>&1",
    )
    assert "systemd" in output.stdout
    assert not any(secret in output.stdout for secret in secrets)
    # Not as words of a command: sudo would write them down.
    patterns = "".join(f"{secret}\n" for secret in secrets)
    line = "sudo grep -rlF -f - /etc /run /var /root /home /tmp 2>/dev/null"
    assert ssh(host, line, stdin=patterns).stdout == ""
