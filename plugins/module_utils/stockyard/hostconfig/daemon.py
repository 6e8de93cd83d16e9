# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``daemon.json``: merged, checked, written whole, and taken up by dockerd in the gentlest way that
does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import OperationRefused, StockyardError
from ..model import daemon_json
from .machine import Machine

PATH = daemon_json.PATH
# What dockerd takes up by SIGHUP; the rest needs a new start.
# docs.docker.com/reference/cli/dockerd, reload.
RELOADABLE = frozenset(
    (
        "allow-nondistributable-artifacts",
        "authorization-plugins",
        "debug",
        "default-runtime",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    )
)
PATIENCE = 300.0


class DaemonRefused(StockyardError):
    """dockerd does not take the configuration; the old one is in force again."""


@dataclass(frozen=True)
class Change:
    """What is, what is to be, and what has to be done about it.

    :param action: ``none``, ``reload`` or ``restart``.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    keys: tuple[str, ...]
    action: str

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.keys)


def merged(old: Mapping[str, Any], new: Mapping[str, Any], *, purge: bool) -> dict[str, Any]:
    """The configuration that is to be: each key as a whole, and none for one that is null."""
    kept = {} if purge else dict(old)
    return {key: value for key, value in {**kept, **new}.items() if value is not None}


def plan(
    machine: Machine, new: Mapping[str, Any], *, purge: bool = False, path: str = PATH
) -> Change:
    """What :func:`apply` would do.

    :raises InvalidInput: when the file that is there is no JSON object, or the new keys cannot be.
    """
    old = daemon_json.parse(machine.read(path) or "{}", path)
    after = merged(old, new, purge=purge)
    daemon_json.check_types(after, path)
    if "hosts" in after:
        _check_hosts(machine)
    keys = tuple(sorted(k for k in old.keys() | after.keys() if old.get(k) != after.get(k)))
    action = "none" if not keys else "reload" if RELOADABLE.issuperset(keys) else "restart"
    return Change(old, after, keys, action)


def apply(
    machine: Machine,
    change: Change,
    *,
    path: str = PATH,
    service: str = "docker",
    take_up: bool = True,
) -> str:
    """Write it and have dockerd take it up; returns what was done: ``none``, ``reload`` or
    ``restart``.

    A configuration that dockerd does not start with is taken back, and dockerd started with the old
    one.

    :raises DaemonRefused: then.
    """
    if not change.changed:
        return "none"
    validate(machine, change.after)
    old = machine.read(path)
    machine.write(path, text(change.after))
    active = machine.programs(["systemctl", "is-active", "--quiet", service], PATIENCE).code == 0
    if not take_up or not active:
        return "none"
    done = machine.programs(["systemctl", change.action, service], PATIENCE)
    if done.code:
        cause = _last_words(machine, service) or done.err.strip()[-500:]
        _take_back(machine, path, old, service)
        raise DaemonRefused(
            "dockerd does not take this configuration; the old one is in force again.",
            name=path,
            cause=cause,
            remedy=f"correct the setting that the cause names; journalctl -u {service} has more",
        )
    return change.action


def validate(machine: Machine, config: Mapping[str, Any]) -> bool:
    """Ask dockerd itself, where it can be asked (23.0 and later); says whether it could.

    :raises DaemonRefused: when it says no.
    """
    if "--validate" not in machine.programs(["dockerd", "--help"], PATIENCE).out:
        return False
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(text(config))
        file.flush()
        done = machine.programs(["dockerd", "--validate", f"--config-file={file.name}"], PATIENCE)
    if done.code:
        raise DaemonRefused(
            "dockerd does not take this configuration; nothing was changed.",
            cause=done.err.strip()[-500:],
        )
    return True


def text(config: Mapping[str, Any]) -> str:
    """As it is written."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _last_words(machine: Machine, service: str) -> str:
    """Return what dockerd logged last; nothing if the journal does not say."""
    unit = service if service.endswith(".service") else f"{service}.service"
    line = [
        "journalctl",
        "--quiet",
        "--boot",
        "--output=cat",
        "--lines=6",
        f"_SYSTEMD_UNIT={unit}",
        "_TRANSPORT=stdout",
    ]
    # It was started several times, and says the same each time.
    return "; ".join(dict.fromkeys(machine.programs(line, PATIENCE).out.splitlines()))[-500:]


def _take_back(machine: Machine, path: str, old: str | None, service: str) -> None:
    if old is None:
        machine.path(path).unlink(missing_ok=True)
    else:
        machine.write(path, old)
    machine.programs(["systemctl", "reset-failed", service], PATIENCE)
    machine.programs(["systemctl", "restart", service], PATIENCE)


def _check_hosts(machine: Machine) -> None:
    """dockerd does not start when its sockets are named twice."""
    unit = machine.programs(["systemctl", "cat", "docker.service"], PATIENCE).out
    started = [
        line for line in unit.splitlines() if line.startswith("ExecStart=") and line != "ExecStart="
    ]
    if started and " -H" in started[-1]:
        raise OperationRefused(
            "hosts cannot be set here.",
            name="daemon.json",
            cause="the unit starts dockerd with -H, and dockerd does not start when both say where "
            "to listen",
            remedy="leave hosts out, or change ExecStart by a drop-in first",
        )
