# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates of the real tests, built while the tests that need no guest run."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LOG = CHECKOUT / "build" / "e2e" / "prepare.log"
_running: list[subprocess.Popen[bytes]] = []


def start(modules: Iterable[str]) -> None:
    """Begin, in a process of its own, with what these modules need: their ``PREPARED``.

    Where that cannot be, or fails, the fixture builds it and tells why.
    """
    if os.geteuid() == 0 or not shutil.which("qemu-system-x86_64"):
        return
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'plugins' / 'module_utils'}:{CHECKOUT}"}
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        line = [sys.executable, "-m", "tests.e2e.prepare", *modules]
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


def main(names: list[str]) -> None:
    """Build what all share, and then what single modules do."""
    from stockyard import Yard
    from tests.e2e.conftest import OWNER, TEMPLATE, WORK

    modules = [importlib.import_module(name) for name in names]
    wanted = [(OWNER, TEMPLATE)] + [(OWNER, spec) for module in modules for spec in getattr(module, "PREPARED", ())]
    if any(name.startswith("tests.kill.") for name in names):
        # Controllers are killed in a yard of their own, beside the one that the other tests share.
        wanted.insert(1, (OWNER.replace("e2e", "kill"), TEMPLATE))
    for owner, spec in wanted:
        with Yard("qemu:///session", owner=owner, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")) as yard:
            yard.template(spec)


if __name__ == "__main__":
    main(sys.argv[1:])
