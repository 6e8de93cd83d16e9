# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates of the real tests, built while the tests that need no guest run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LOG = CHECKOUT / "build" / "e2e" / "prepare.log"
_running: list[subprocess.Popen[bytes]] = []


def start() -> None:
    """Begin, in a process of its own. Where that cannot be, or fails, the fixture builds it and tells why."""
    if os.geteuid() == 0 or not shutil.which("qemu-system-x86_64"):
        return
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'plugins' / 'module_utils'}:{CHECKOUT}"}
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        line = [sys.executable, "-m", "tests.e2e.prepare"]
        _running.append(subprocess.Popen(line, cwd=CHECKOUT, env=environment, stdout=log, stderr=log))


def wait() -> None:
    """Wait until it is done."""
    for process in _running:
        process.wait(timeout=1800)
    _running.clear()


def stop() -> None:
    """End what still runs."""
    for process in _running:
        process.terminate()
    wait()


if __name__ == "__main__":
    from stockyard import Yard
    from tests.e2e.conftest import OWNER, TEMPLATE, WORK

    # Controllers are killed in a yard of their own, beside the one that the other tests share.
    for owner in (OWNER, OWNER.replace("e2e", "kill")):
        with Yard("qemu:///session", owner=owner, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")) as yard:
            yard.template(TEMPLATE)
