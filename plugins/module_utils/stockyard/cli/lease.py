# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard lease``: leases hosts from a shell, renews and releases the leases."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
from datetime import UTC, datetime
from typing import Any

from ..clients.leases import HeldLease
from ..errors import InvalidInput, StockyardError
from ..model.access_info import export_line
from ..model.host import SUSPENDED
from ..model.lease import seconds
from ..model.lease_info import LeaseInfo
from ..resources.leases import lease_numbers
from ..yard import Yard
from . import labels, run, say
from .durations import length

TEXT = """\
take prints a line that a POSIX shell takes the environment from:
  eval "$(stockyard lease take --fleet ci --duration 30m)"
  docker info
  stockyard lease release
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the lease has expired, 4 no host is free or another
controller is at work.
exec: the command's own; 124 the lease was lost, 125 stockyard failed, 126 and 127 as with env(1).
"""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    lease = commands.add_parser(
        "lease",
        help="lease a ready host",
        description=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).add_subparsers(required=True, metavar="ACTION")
    take = _asking(
        lease.add_parser("take", parents=[common], help="lease a host and print its environment")
    )
    take.add_argument("--json", action="store_true", help="print all facts of the lease")
    take.set_defaults(run=_take)
    renew = _naming(lease.add_parser("renew", parents=[common], help="renew a lease"))
    renew.add_argument(
        "--duration", default="1h", help="duration from now: 45m, 2h (default: %(default)s)"
    )
    renew.set_defaults(run=_renew)
    release = _naming(
        lease.add_parser("release", parents=[common], help="release a host, which deletes it")
    )
    release.add_argument("--replace", action="store_true", help="create a replacement immediately")
    release.set_defaults(run=_release)
    for verb, change in (("suspend", _suspend), ("resume", _resume)):
        _naming(
            lease.add_parser(verb, parents=[common], help=f"{verb} the host, and keep the lease")
        ).set_defaults(run=change)
    _naming(
        lease.add_parser("env", parents=[common], help="print the environment again")
    ).set_defaults(run=_env)
    listing = lease.add_parser("list", parents=[common], help="list leases")
    for name in ("--holder", "--fleet", "--tenant"):
        listing.add_argument(name)
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_list)
    within = _asking(
        lease.add_parser(
            "exec", parents=[common], help="run a command with a leased host, and release the host"
        )
    )
    within.add_argument(
        "--replace", action="store_true", help="create a replacement immediately when it ends"
    )
    within.add_argument(
        "--keep-on-failure",
        metavar="DURATION",
        help="if the command fails, keep the host suspended under a separate name: 2h",
    )
    within.add_argument(
        "command", nargs="+", metavar="COMMAND", help="after --, with its arguments"
    )
    within.set_defaults(run=_exec, failure=run.FAILED)


def _asking(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that select the host."""
    parser.add_argument("--fleet", default="", help="the fleet to lease from")
    labels.add(parser, "a label that the host must have")
    parser.add_argument("--tenant", default="default")
    parser.add_argument(
        "--holder",
        default=os.environ.get("STOCKYARD_HOLDER") or None,
        help="by default user@machine",
    )
    parser.add_argument(
        "--duration", default="1h", help="duration: 90s, 45m, 2h (default: %(default)s)"
    )
    parser.add_argument(
        "--wait", default="0s", help="maximum time to wait for a free host (default: %(default)s)"
    )
    return parser


def _naming(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the argument that selects the lease."""
    number = os.environ.get("STOCKYARD_LEASE") or None
    parser.add_argument(
        "id", nargs="?", default=number, help="the lease's number, by default $STOCKYARD_LEASE"
    )
    return parser


def _taken(yard: Yard, options: argparse.Namespace) -> HeldLease:
    return yard.leases.acquire(
        options.fleet,
        holder=options.holder or f"{getpass.getuser()}@{socket.gethostname()}",
        duration=length("duration", options.duration),
        labels=labels.parse(options.label),
        tenant=options.tenant,
        wait=seconds("wait", options.wait),
        replace=getattr(options, "replace", False),
    )


def _take(yard: Yard, options: argparse.Namespace) -> int:
    info = _taken(yard, options).info
    if options.json:
        say.data(info.to_dict())
    else:
        say.shell(_line(info))
    return 0


def _renew(yard: Yard, options: argparse.Namespace) -> int:
    yard.leases.renew(_id(options), length("duration", options.duration))
    return 0


def _release(yard: Yard, options: argparse.Namespace) -> int:
    yard.leases.release(_id(options), replace=options.replace)
    return 0


def _suspend(yard: Yard, options: argparse.Namespace) -> int:
    yard.leases.suspend(_id(options))
    return 0


def _resume(yard: Yard, options: argparse.Namespace) -> int:
    yard.leases.resume(_id(options))
    return 0


def _env(yard: Yard, options: argparse.Namespace) -> int:
    info = next(
        (lease for lease in yard.leases.list() if lease.id == _id(options) and not lease.ended),
        None,
    )
    if info is None:
        raise lease_numbers.expired_error(yard.context, _id(options))
    say.shell(_line(info))
    return 0


def _list(yard: Yard, options: argparse.Namespace) -> int:
    leases = yard.leases.list(options.tenant, options.fleet, options.holder)
    if options.json:
        say.data([lease.to_dict() for lease in leases])
        return 0
    for lease in leases:
        end = datetime.fromtimestamp(lease.until, UTC)
        until = "ended" if lease.ended else f"{end:%Y-%m-%dT%H:%M:%SZ}"
        say.out(f"{lease.id}  {until}  {lease.fleet}/{lease.host}  {lease.holder}")
    return 0


def _exec(yard: Yard, options: argparse.Namespace) -> int:
    duration = options.keep_on_failure and length("keep-on-failure", options.keep_on_failure)
    with _taken(yard, options) as lease:
        code = run.run(lease, options.command, yard.context.clock)
        if duration and run.failed(code):
            _keep(lease, duration)
        return code


def _keep(lease: HeldLease, duration: float) -> None:
    """Keep the host of a failed command, and say how to enter it."""
    try:
        host = lease.keep(duration)
    except StockyardError as error:
        say.err(f"stockyard: the host is not kept: {error}")
        return
    until = datetime.fromtimestamp(host.lease.until if host.lease else host.expires, UTC)
    state = "has the state of the failed command, suspended,"
    if host.state != SUSPENDED:
        state = "is kept without its memory, shut down,"
    say.err(f"stockyard: host {host.name} {state} until {until:%Y-%m-%d %H:%M:%S} UTC")
    say.err(f"resume: stockyard host resume {host.name} --tenant {host.tenant}")
    say.err(f"enter: {host.ssh.command}")
    if host.lease:
        say.err(f"delete: stockyard lease release {host.lease.id}")


def _line(lease: LeaseInfo) -> str:
    return export_line({"STOCKYARD_LEASE": lease.id, **lease.docker.environment})


def _id(options: argparse.Namespace) -> str:
    if not options.id:
        raise InvalidInput(
            "no lease was specified.", remedy="specify its number, or set STOCKYARD_LEASE"
        )
    return str(options.id)
