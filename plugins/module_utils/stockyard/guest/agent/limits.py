# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recalculation of limits in per cent, after a resize of a host's memory.

systemd converts a percentage to bytes when it reads a unit, and a fork's systemd read its units in
the template. systemd 257 (Debian 13) writes the new value to the kernel only when the next unit of
the slice starts, so the agent writes it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

MARKER = "etc/stockyard/security.json"
BLOCKS = "sys/devices/system/memory"
CONTROL_GROUPS = "sys/fs/cgroup"
PATIENCE = 30.0
POLL = 0.2
PERCENTAGES = ("memory_percent", "container_memory_percent")


def refresh_limits(root: str, memory_mib: int) -> dict[str, bool]:
    """Reload systemd's units, so that it recalculates limits in per cent, and apply the limits.
    Without such limits nothing happens.

    :param memory_mib: memory of the machine. It goes online some time after it was
        plugged in.
    """
    if not _in_percent(root):
        return {"refreshed": False}
    end = time.monotonic() + PATIENCE
    while used_mib(root) < memory_mib and time.monotonic() < end:
        time.sleep(POLL)
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=300)
    _apply(root)
    return {"refreshed": True}


def _apply(root: str) -> None:
    """Write systemd's limits of memory to the control groups of slices and containers."""
    command = [
        "systemctl",
        "show",
        "--property=ControlGroup,MemoryMax",
        "*.slice",
        "docker-*.scope",
    ]
    process = subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE, text=True)
    for block in process.stdout.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        path = unit.get("ControlGroup", "").strip("/")
        if path and unit.get("MemoryMax", "").isdecimal():
            _write(os.path.join(root, CONTROL_GROUPS, path, "memory.max"), unit["MemoryMax"])


def used_mib(root: str) -> int:
    """Return the memory that is online, including the memory of devices and the kernel, in MiB."""
    folder = os.path.join(root, BLOCKS)
    size = int(_read(os.path.join(folder, "block_size_bytes")), 16)
    states = [
        os.path.join(folder, name, "state")
        for name in os.listdir(folder)
        if name.startswith("memory")
    ]
    return sum(_read(path) == "online" for path in states) * size >> 20


def _in_percent(root: str) -> bool:
    try:
        limits = json.loads(_read(os.path.join(root, MARKER))).get("limits") or {}
    except FileNotFoundError:
        return False
    return any(limits.get(name) for name in PERCENTAGES)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "r+", encoding="utf-8") as handle:
            handle.write(text)
    except OSError:
        # A container can end at any moment, and its group with it.
        if os.path.exists(path):
            raise


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read().strip()
