# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the program that started them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def of(text: str) -> list[int]:
    """Return the processes, except this one, whose arguments or directory contain a text."""
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if int(path.name) != os.getpid() and text in _arguments_and_directory(path)
    ]


def _arguments_and_directory(path: Path) -> str:
    with suppress(OSError):
        return f"{path.joinpath('cmdline').read_bytes()!r} {os.readlink(path / 'cwd')}"
    return ""


def wait_for_end(text: str, limit: float) -> None:
    """Wait until no process belongs to a text, see :func:`of`.

    :param limit: seconds after which the wait fails.
    """
    end = time.monotonic() + limit
    while pids := of(text):
        assert time.monotonic() < end, pids
        time.sleep(0.1)


def kill(text: str) -> None:
    """Kill all processes that belong to a text, such as the directory of a test."""
    while pids := of(text):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
