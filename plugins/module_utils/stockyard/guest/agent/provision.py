# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a template is given before it is frozen: images in its Docker, then the user's commands,
which may use them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

PLACE = "var/lib/stockyard/preload"
COMMANDS = "var/lib/stockyard/provision"
TAIL = 1500


def provision(root: str, end: float) -> list[str]:
    """Run the user's commands, in their order; returns what was done."""
    path = os.path.join(root, COMMANDS)
    if not os.path.exists(path):
        return []
    _run(["/bin/sh", "-eu", path], end)
    os.unlink(path)
    return ["commands"]


def load(root: str, end: float) -> list[str]:
    """Put every image that lies ready into Docker, and take its file away; returns what
    was loaded.
    """
    folder = os.path.join(root, PLACE)
    try:
        with open(os.path.join(folder, "list.json"), encoding="utf-8") as handle:
            items = json.load(handle)
    except FileNotFoundError:
        return []
    for item in items:
        file = os.path.join(folder, item["file"])
        with open(file, "rb") as source:
            _run(_command(item["kind"], item["name"]), end, source)
        os.unlink(file)
    shutil.rmtree(folder)
    return [str(item["name"] or item["file"]) for item in items]


def _command(kind: str, name: str) -> list[str]:
    """What takes a file from its standard input."""
    known = {
        "archive": ["docker", "load", "--quiet"],
        "rootfs": ["docker", "import", "-", name],
        # What it is made of has to be there: nothing outside is reached.
        "build": ["docker", "build", "--quiet", "--network", "none", "--tag", name, "-"],
    }
    return known[kind]


def _run(command: list[str], end: float, source: object = subprocess.DEVNULL) -> None:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "HOME": "/root"}
    left = max(1.0, end - time.monotonic())
    done = subprocess.run(
        command,
        stdin=source,
        capture_output=True,
        timeout=left,
        check=False,
        env=environment,  # type: ignore[call-overload]
    )
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-TAIL:]
        raise RuntimeError(f"{' '.join(command[:2])} failed ({done.returncode}): {said}")
