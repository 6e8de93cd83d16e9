# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``daemon.json``: merged, validated, written completely, and applied by a reload or, if necessary,
a restart of dockerd.
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
# Keys that dockerd rereads at SIGHUP. Other keys need a restart.
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
    """Error: dockerd does not accept the configuration. The old one is in force again."""


@dataclass(frozen=True)
class Change:
    """Current configuration, desired configuration, and the necessary action.

    :param action: ``none``, ``reload`` or ``restart``.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    keys: tuple[str, ...]
    action: str

    @property
    def changed(self) -> bool:
        """Return whether a change is necessary."""
        return bool(self.keys)


def merged(old: Mapping[str, Any], new: Mapping[str, Any], *, purge: bool) -> dict[str, Any]:
    """Return the desired configuration: each key is replaced as a whole, and a key with the value
    null is deleted.
    """
    base = {} if purge else dict(old)
    return {key: value for key, value in {**base, **new}.items() if value is not None}


def plan(
    machine: Machine, new: Mapping[str, Any], *, purge: bool = False, path: str = PATH
) -> Change:
    """Return the change that :func:`apply` would make.

    :raises InvalidInput: if the existing file is not a JSON object, or if the new keys are invalid.
    """
    old = daemon_json.parse(machine.read(path) or "{}", path)
    after = merged(old, new, purge=purge)
    daemon_json.check_types(after, path)
    if "hosts" in after:
        _check_hosts(machine)
    keys = tuple(sorted(key for key in old.keys() | after.keys() if old.get(key) != after.get(key)))
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
    """Write the configuration and apply it; return the action: ``none``, ``reload`` or ``restart``.

    If dockerd does not start with the configuration, restore the old one and restart dockerd.

    :raises DaemonRefused: if dockerd does not start with the configuration.
    """
    if not change.changed:
        return "none"
    validate(machine, change.after)
    old = machine.read(path)
    machine.write(path, text(change.after))
    active = machine.programs(["systemctl", "is-active", "--quiet", service], PATIENCE).code == 0
    if not take_up or not active:
        return "none"
    process = machine.programs(["systemctl", change.action, service], PATIENCE)
    if process.code:
        cause = _last_words(machine, service) or process.err.strip()[-500:]
        _take_back(machine, path, old, service)
        raise DaemonRefused(
            "dockerd does not start with this configuration; the earlier configuration was "
            "restored.",
            name=path,
            cause=cause,
            remedy=f"correct the setting that the cause names; see journalctl -u {service} "
            "for details",
        )
    return change.action


def validate(machine: Machine, config: Mapping[str, Any]) -> bool:
    """Validate a configuration by dockerd itself, and return whether dockerd supports that (23.0
    and later).

    :raises DaemonRefused: if the configuration is invalid.
    """
    if "--validate" not in machine.programs(["dockerd", "--help"], PATIENCE).out:
        return False
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(text(config))
        file.flush()
        process = machine.programs(
            ["dockerd", "--validate", f"--config-file={file.name}"], PATIENCE
        )
    if process.code:
        raise DaemonRefused(
            "dockerd does not accept this configuration; nothing was changed.",
            cause=process.err.strip()[-500:],
        )
    return True


def text(config: Mapping[str, Any]) -> str:
    """Return the content of the file."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _last_words(machine: Machine, service: str) -> str:
    """Return the last messages of dockerd, or nothing if the journal has none."""
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
    # systemd starts dockerd several times, and each start logs the same messages.
    return "; ".join(dict.fromkeys(machine.programs(line, PATIENCE).out.splitlines()))[-500:]


def _take_back(machine: Machine, path: str, old: str | None, service: str) -> None:
    if old is None:
        machine.path(path).unlink(missing_ok=True)
    else:
        machine.write(path, old)
    machine.programs(["systemctl", "reset-failed", service], PATIENCE)
    machine.programs(["systemctl", "restart", service], PATIENCE)


def _check_hosts(machine: Machine) -> None:
    """Check that the unit does not set the sockets too: dockerd does not start if they are set
    twice.
    """
    unit = machine.programs(["systemctl", "cat", "docker.service"], PATIENCE).out
    started = [
        line for line in unit.splitlines() if line.startswith("ExecStart=") and line != "ExecStart="
    ]
    if started and " -H" in started[-1]:
        raise OperationRefused(
            "hosts cannot be set in this file.",
            name="daemon.json",
            cause="the unit starts dockerd with -H, and dockerd does not start if both "
            "define addresses",
            remedy="omit hosts, or change ExecStart with a drop-in first",
        )
