# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases from a lease service: ``stockyard lease --service``, without access to the hypervisor."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..clock import SystemClock
from ..errors import InvalidInput
from ..model.access_info import export_line
from ..paths import expand_user
from . import run, say
from .command import Option, Options, pairs
from .durations import length
from .holder import default_holder, number

if TYPE_CHECKING:
    from ..service.client import HeldServedLease, LeaseService, ServedLease

OPTIONS = (
    Option(
        "--service",
        "lease from stockyard serve instead: unix:///path or http://127.0.0.1:2380",
        metavar="URL",
        environment="STOCKYARD_SERVICE",
    ),
    Option(
        "--token-file",
        "with --service: the file with the token of the project",
        metavar="FILE",
        environment="STOCKYARD_TOKEN_FILE",
    ),
)


def take(options: Options) -> int:
    """Lease a host, and print its environment."""
    return _print(options, _taken(options).info)


def execute(options: Options) -> int:
    """Run a command with a leased host."""
    for name in ("sync", "fetch", "keep_on_failure", "no_replace"):
        if getattr(options, name):
            raise InvalidInput(
                f"--{name.replace('_', '-')} needs access to the hypervisor.",
                remedy="omit --service, or copy files with docker cp",
            )
    with run.ended_by_signals(), _taken(options) as lease:
        return run.run(lease, options.command, SystemClock())


def renew(options: Options) -> int:
    """Renew a lease."""
    info = _service(options).renew(number(options), length("duration", options.duration))
    if options.json:
        say.data({"changed": True, "plan": [], "leases": [info.to_dict()]})
    return 0


def release(options: Options) -> int:
    """Release a lease."""
    _service(options).release(number(options))
    if options.json:
        say.data({"changed": True, "plan": [], "leases": []})
    return 0


def env(options: Options) -> int:
    """Print the environment of a lease again."""
    return _print(options, _service(options).get(number(options)))


def _print(options: Options, info: ServedLease) -> int:
    """Write the environment of a lease, or its facts as JSON."""
    if options.json:
        say.data(info.to_dict())
    else:
        say.shell(_line(info))
    return 0


def print_list(options: Options) -> int:
    """Print the leases of the project."""
    leases = [
        lease
        for lease in _service(options).list()
        if options.fleet in ("", lease.fleet) and options.holder in ("", lease.holder)
    ]
    if options.json:
        say.data([lease.to_dict() for lease in leases])
        return 0
    for lease in leases:
        end = datetime.fromtimestamp(lease.until, UTC)
        say.out(f"{lease.id}  {end:%Y-%m-%dT%H:%M:%SZ}  {lease.fleet}/{lease.host}  {lease.holder}")
    return 0


def _taken(options: Options) -> HeldServedLease:
    return _service(options).acquire(
        options.fleet,
        # A holder has one lease; each call without a holder gets a new one.
        holder=options.holder or f"{default_holder()}-{secrets.token_hex(4)}",
        duration=length("duration", options.duration),
        labels=pairs("--label", options.label),
        pool=options.pool,
        wait=length("wait", options.wait),
    )


def _service(options: Options) -> LeaseService:
    from ..service.client import LeaseService
    from ..service.projects import read_private

    if not options.token_file:
        raise InvalidInput(
            "--service needs the token of a project.",
            remedy="set --token-file or STOCKYARD_TOKEN_FILE",
        )
    token = read_private(expand_user(options.token_file)).decode("ascii", "replace").strip()
    return LeaseService(options.service, token)


def _line(lease: ServedLease) -> str:
    return export_line({"STOCKYARD_LEASE": lease.id, **lease.environment})
