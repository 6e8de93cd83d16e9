# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are built while other tests run: the templates of the real tests, and the simulated
vCenter.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stockyard import Yard

CHECKOUT = Path(__file__).parents[2]
WORK = CHECKOUT / "build" / "e2e"
LOG = WORK / "prepare.log"
# Held for as long as it goes on, in whichever process.
LOCK = WORK / "prepare.lock"
# Locked by real tests of the process that does not run the shared guests, and by tests that need
# libvirt's session alone.
SESSION = WORK / "session.lock"
# Real tests that the process without the shared guests runs, and the storage of their guests.
APART_TESTS = ("tests/contract/", "tests/crash/", "tests/e2e/test_molecule.py")
APART = WORK / "apart"
PATIENCE = 1800.0
_running: list[subprocess.Popen[bytes]] = []


def start(files: Iterable[Path]) -> None:
    """Begin, in a process of its own, with what these files of tests need: their ``PREPARED``.

    Where that cannot be, or fails, the fixture builds it and tells why.
    """
    if os.geteuid() == 0 or not shutil.which("qemu-system-x86_64"):
        return
    environment = {
        **os.environ,
        "PYTHONPATH": f"{CHECKOUT / 'plugins' / 'module_utils'}:{CHECKOUT}",
    }
    WORK.mkdir(parents=True, exist_ok=True)
    modules = [".".join(file.relative_to(CHECKOUT).with_suffix("").parts) for file in files]
    line = [sys.executable, "-m", "tests.helpers.prepare", *modules]
    with LOG.open("wb") as log, LOCK.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _running.append(
            subprocess.Popen(
                line,
                cwd=CHECKOUT,
                env=environment,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
            )
        )


def simulator() -> None:
    """Build the simulated vCenter in a separate process, for which its users wait."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "simulator.log").open("wb") as log:
        line = [sys.executable, "-m", "tests.vcsim.build"]
        _running.append(subprocess.Popen(line, cwd=CHECKOUT, stdout=log, stderr=log))


def docker_py() -> None:
    """Make the environment of docker-py's tests in a separate process, for which its users wait."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "docker-py.log").open("wb") as log:
        line = [str(CHECKOUT / "hack" / "endpoint_suite.sh"), "--prepare"]
        _running.append(subprocess.Popen(line, cwd=CHECKOUT, stdout=log, stderr=log))


def compose() -> None:
    """Fetch compose in a separate process, for which its users wait."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "compose.log").open("wb") as log:
        line = [sys.executable, "-m", "tests.helpers.docker_clients", "compose"]
        _running.append(subprocess.Popen(line, cwd=CHECKOUT, stdout=log, stderr=log))


def wait() -> None:
    """Wait until the build is complete, in whichever process it runs."""
    WORK.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + PATIENCE
    with LOCK.open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < end, f"see {LOG}"
                time.sleep(0.5)
            else:
                return


@contextmanager
def session(*, alone: bool = False) -> Iterator[None]:
    """Hold libvirt's session together with other processes, or alone."""
    WORK.mkdir(parents=True, exist_ok=True)
    with SESSION.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def owner_apart(kind: str = "apart") -> str:
    """Return an owner of guests in the other storage."""
    from tests.e2e.conftest import OWNER

    return OWNER.replace("e2e", kind)


def yard_apart(kind: str = "apart") -> Yard:
    """Open a yard of the other storage, after all templates are built."""
    from stockyard import Yard

    if os.geteuid() == 0:
        pytest.skip("libvirt's session is for ordinary users: run `make test`, which drops to one")
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed: run `make setup`")
    wait()
    link_images()
    return Yard(
        "qemu:///session", owner=owner_apart(kind), storage=str(APART), pki_dir=str(WORK / "pki")
    )


def link_images() -> None:
    """Create hard links to the images of the shared storage in the other storage."""
    source, target = WORK / "store" / "images", APART / "images"
    for path in (*source.glob("base-*"), *source.glob("[0-9a-f]*/*")):
        link = target / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError, FileNotFoundError):
            link.hardlink_to(path)


def stop() -> None:
    """End what still runs."""
    for process in _running:
        process.terminate()
        process.wait(PATIENCE)
    _running.clear()


def main(names: list[str]) -> None:
    """Build what all share, and then what single modules do, in the order in which they come.

    A function is called when its turn comes, because it may need templates that were built before.
    """
    from stockyard import Yard
    from tests.e2e.conftest import OWNER, TEMPLATE

    modules = [importlib.import_module(name) for name in names]
    apart = [name for name in names if f"{name.replace('.', '/')}.py".startswith(APART_TESTS)]
    store = WORK / "store"
    specs: list[tuple[str, Path, Any]] = [(OWNER, store, TEMPLATE)] if apart != names else []
    specs += [
        (OWNER, store, spec) for module in modules for spec in getattr(module, "PREPARED", ())
    ]
    if apart:
        specs.append((owner_apart(), APART, TEMPLATE))
    for owner, storage, spec_or_function in specs:
        with Yard(
            "qemu:///session", owner=owner, storage=str(storage), pki_dir=str(WORK / "pki")
        ) as yard:
            began = time.monotonic()
            if storage == APART:
                link_images()
            spec = spec_or_function() if callable(spec_or_function) else spec_or_function
            yard.templates.apply(spec)
            print(f"{owner} {spec.name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
