# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units that a host needs: detection of failed units, and the ends of their logs."""

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
# The TLS front, and one that waits in reserve: see effects.py.
FRONT, SPARE_FRONT = "stockyard-tls.service", "stockyard-tls-spare.service"
FRONTS = (FRONT, SPARE_FRONT)
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "NRestarts",
    "Job",
    "ConditionResult",
    "ConditionTimestampMonotonic",
)
# systemd restarts some units for ever. A unit with this many restarts does not recover by itself.
RESTARTS = 3
# Seconds between two checks: between two starts a unit is "failed" for a moment.
PAUSE = 1.0
PATIENCE = 60.0
LINES, LONGEST = 6, 450
NO_KEYS = "no hostkeys available"


def failures(units: Sequence[str]) -> list[str]:
    """Return the units that failed for good, each with the end of its log.

    Only the first unit must run: the remaining units can be absent or off.
    """
    suspects = _given_up(units)
    if not suspects:
        return []
    time.sleep(PAUSE)
    return [f"{name} failed: {last_words(name)}" for name in _given_up(units) if name in suspects]


def last_words(unit: str) -> str:
    """Return the end of a unit's output, or of systemd's log about a unit without output."""
    for journal_filter in ([f"_SYSTEMD_UNIT={unit}", "_TRANSPORT=stdout"], ["--unit", unit]):
        lines = _output(
            "journalctl", "--quiet", "--boot", "--output=cat", f"--lines={LINES}", *journal_filter
        ).splitlines()
        # A restarted unit logs the same lines each time.
        if words := "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip())):
            return words[-LONGEST:]
    return "it logged nothing"


def check_sshd() -> None:
    """Check sshd's configuration: if sshd does not start, no host can be reached.

    :raises RuntimeError: if sshd rejects the configuration, with sshd's message.
    """
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    process = subprocess.run(
        ["/usr/sbin/sshd", "-t"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # A template has no host key; sshd complains about that only if the configuration is valid.
    if process.returncode and NO_KEYS not in process.stderr:
        raise RuntimeError(
            f"sshd does not take its configuration: {process.stderr.strip()[-LONGEST:]}"
        )


def _given_up(units: Sequence[str]) -> list[str]:
    """Return the units that failed for good, in the given order."""
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
    # A unit that is off and has no job failed through a unit that it depends on, unless a condition
    # keeps it off.
    pending = state.get("Job", "0") not in ("", "0") or state["ActiveState"] != "inactive"
    condition_failed = (
        state.get("ConditionResult") == "no"
        and state.get("ConditionTimestampMonotonic", "0") != "0"
    )
    return needed and not pending and not condition_failed


def _output(*command: str) -> str:
    process = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
    )
    return process.stdout
