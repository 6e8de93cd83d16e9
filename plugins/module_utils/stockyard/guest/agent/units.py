# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd without which a host is never ready: those that gave up, and the last words of
each.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

DOCKER = (
    "docker.service",
    "docker.socket",
    "containerd.service",
    "stockyard-authz.service",
    "stockyard-reader.socket",
    "stockyard-reader.service",
)
FRONT = ("stockyard-tls.service",)
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "NRestarts",
    "Job",
    "ConditionResult",
    "ConditionTimestampMonotonic",
)
# Some units are restarted for ever. One that ended as often as this does not get well by itself.
RESTARTS = 3
# Seconds between two looks: between two starts a unit is "failed" for a moment.
PAUSE = 1.0
PATIENCE = 60.0
LINES, LONGEST = 6, 450
NO_KEYS = "no hostkeys available"


def failures(units: Sequence[str]) -> list[str]:
    """Return those of these units that gave up, each with its last words.

    Only the first one has to run: the others can be absent, or off.
    """
    first = _given_up(units)
    if not first:
        return []
    time.sleep(PAUSE)
    return [f"{name} failed: {last_words(name)}" for name in _given_up(units) if name in first]


def last_words(unit: str) -> str:
    """Return the end of what a unit wrote; of what systemd logged about the unit if it wrote
    nothing itself.
    """
    for match in ([f"_SYSTEMD_UNIT={unit}", "_TRANSPORT=stdout"], ["--unit", unit]):
        lines = _output(
            "journalctl", "--quiet", "--boot", "--output=cat", f"--lines={LINES}", *match
        ).splitlines()
        # A unit that was started again says the same each time.
        if words := "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())):
            return words[-LONGEST:]
    return "it logged nothing"


def check_sshd() -> None:
    """Refuse a configuration that sshd does not take: no host could be reached.

    :raises RuntimeError: with sshd's words.
    """
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    done = subprocess.run(
        ["/usr/sbin/sshd", "-t"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # A template has no host key, and sshd looks for one when the configuration is fine.
    if done.returncode and NO_KEYS not in done.stderr:
        raise RuntimeError(
            f"sshd does not take its configuration: {done.stderr.strip()[-LONGEST:]}"
        )


def _given_up(units: Sequence[str]) -> list[str]:
    """Return the units that no longer start, in the order of the names."""
    text = _output(
        "systemctl", "show", *(f"--property={name}" for name in PROPERTIES), "--", *units
    )
    states = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
    ]
    return [
        state["Id"]
        for state in states
        if state.get("Id") and _gave_up(state, state["Id"] == units[0])
    ]


def _gave_up(state: dict[str, str], needed: bool) -> bool:
    if state["LoadState"] != "loaded" or state["ActiveState"] == "active":
        return False
    if state["ActiveState"] == "failed" or int(state.get("NRestarts") or 0) >= RESTARTS:
        return True
    # Off, and systemd is not about to start it: something that it depends on failed. Unless a
    # condition keeps it off.
    waits = state.get("Job", "0") not in ("", "0") or state["ActiveState"] != "inactive"
    kept_off = (
        state.get("ConditionResult") == "no"
        and state.get("ConditionTimestampMonotonic", "0") != "0"
    )
    return needed and not waits and not kept_off


def _output(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
    )
    return done.stdout
