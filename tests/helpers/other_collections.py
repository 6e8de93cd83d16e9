# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections of other projects for tests of this one with them, extracted once from the PyPI
package ansible.

Only those that are named here: the whole package has ten thousand files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WORK = Path(__file__).parents[2] / "build" / "collections-of-others"
# The bundle of ansible-core 2.19, the newest for Python 3.11.
PACKAGE = "ansible==12.3.0"
WANTED = ("community/docker/", "community/libvirt/", "community/library_inventory_filtering_v1/")
PATIENCE = 900


def others() -> Path:
    """A directory for ANSIBLE_COLLECTIONS_PATH."""
    ready = WORK / PACKAGE
    if not ready.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                _unpack(ready)
    return ready


def _unpack(ready: Path) -> None:
    """Fetch the package as pip is set to, take the collections out, then a rename."""
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        place = Path(folder)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True, timeout=PATIENCE)
        (wheel,) = place.glob("*.whl")
        prefixes = tuple(f"ansible_collections/{name}" for name in WANTED)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                place / "out", [n for n in archive.namelist() if n.startswith(prefixes)]
            )
        if ready.exists():
            shutil.rmtree(ready)
        os.replace(place / "out", ready)
