# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Execution of the few programs that have no library.

Programs get argument lists, never a shell line; they are bounded by a deadline, and their errors
contain the cause.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...clock import Deadline
from ...errors import (
    DeadlineExceeded,
    HypervisorError,
    MissingDependency,
    OutOfSpace,
    StockyardError,
)

TAIL = 2000


def run(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    name: str,
    error: type[StockyardError] = HypervisorError,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Run a program to its end and return its output.

    If the deadline passes, its whole process group is ended.

    :raises MissingDependency: if the program is not installed.
    :raises OutOfSpace: if it failed because of missing space.
    """
    if not shutil.which(argv[0]):
        raise MissingDependency(
            f"{argv[0]} is not installed.", name=name, remedy=f"install the package of {argv[0]}"
        )
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=deadline.left())
    except BaseException as interruption:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(interruption, subprocess.TimeoutExpired):
            raise DeadlineExceeded(
                f"{argv[0]} took longer than {deadline.seconds:g} s.", name=name
            ) from interruption
        raise
    if process.returncode:
        raise _failed(argv[0], process.returncode, stderr or stdout, name, error)
    return stdout


def _failed(
    program: str, code: int, text: str, name: str, error: type[StockyardError]
) -> StockyardError:
    cause = text.strip()[-TAIL:] or f"exit status {code}"
    if "No space left on device" in text:
        return OutOfSpace(
            f"{program} ran out of space.",
            name=name,
            cause=cause,
            remedy="free space in the storage",
        )
    return error(f"{program} failed.", name=name, cause=cause)
