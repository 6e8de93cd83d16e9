# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU processes, with a sleeping Python in their place."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from stockyard.providers.libvirt import processes


@pytest.fixture
def machine() -> Iterator[tuple[str, int]]:
    """The uuid and the process of a machine with few descriptors."""
    own = str(uuid.uuid4())
    line = ["qemu-system-test", "-c", "import time; time.sleep(60)", "-uuid", own]
    with subprocess.Popen(line, executable=sys.executable) as process:
        _soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, hard))
        end = time.monotonic() + 10
        while own not in processes.running() and time.monotonic() < end:
            time.sleep(0.02)
        yield own, process.pid
        process.kill()


def test_machine_that_forwards_connections_has_all_descriptors_of_its_user(
    machine: tuple[str, int],
) -> None:
    own, pid = machine
    processes.raise_descriptors(own)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_machine_that_is_off_or_of_another_user_is_left_alone(
    machine: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.raise_descriptors(str(uuid.uuid4()))

    def refuse(*_arguments: object) -> tuple[int, int]:
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuse)
    processes.raise_descriptors(machine[0])
