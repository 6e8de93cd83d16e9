# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning of a template before the freeze: images for its Docker, then the user's commands,
which can use the images.
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
    """Run the user's commands in their order. Return ``commands`` in a list if there were any."""
    path = os.path.join(root, COMMANDS)
    if not os.path.exists(path):
        return []
    _run(["/bin/sh", "-eu", path], end)
    os.unlink(path)
    return ["commands"]


def load(root: str, end: float) -> list[str]:
    """Load all preloaded images into Docker, and delete their files. Return the names."""
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
    """Return the command that loads an image of this kind from its standard input."""
    commands = {
        "archive": ["docker", "load", "--quiet"],
        "rootfs": ["docker", "import", "-", name],
        # The images of its FROM lines must exist locally: no network is available.
        "build": ["docker", "build", "--quiet", "--network", "none", "--tag", name, "-"],
    }
    return commands[kind]


def _run(command: list[str], end: float, source: object = subprocess.DEVNULL) -> None:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "HOME": "/root"}
    timeout = max(1.0, end - time.monotonic())
    process = subprocess.run(
        command,
        stdin=source,
        capture_output=True,
        timeout=timeout,
        check=False,
        env=environment,  # type: ignore[call-overload]
    )
    if process.returncode:
        output = (process.stderr or process.stdout).decode(errors="replace").strip()[-TAIL:]
        raise RuntimeError(f"{' '.join(command[:2])} failed ({process.returncode}): {output}")
