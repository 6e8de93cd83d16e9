# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard host``: suspends hosts and resumes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import InvalidInput
from ..model.lease import seconds
from ..result import Result
from ..yard import Yard
from . import say


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    host = commands.add_parser("host", help="suspend and resume hosts").add_subparsers(
        required=True, metavar="ACTION"
    )
    suspend = _naming(
        host.add_parser("suspend", parents=[common], help="save the memory of hosts and stop them")
    )
    suspend.add_argument("--force", action="store_true", help="suspend leased hosts too")
    suspend.set_defaults(run=_suspend)
    resume = _naming(
        host.add_parser("resume", parents=[common], help="resume hosts with their memory")
    )
    resume.set_defaults(run=_resume)


def _naming(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the arguments that select the hosts."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="the hosts")
    parser.add_argument(
        "--all", action="store_true", help="all hosts of the yard, of all tenants, leased or not"
    )
    parser.add_argument("--tenant", default="default")
    parser.add_argument(
        "--timeout", default="10m", help="maximum time for each host (default: %(default)s)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the actions, and change nothing"
    )
    return parser


def _suspend(yard: Yard, options: argparse.Namespace) -> int:
    suspend_host = partial(yard.hosts.suspend, tenant=options.tenant, force=options.force)
    return _run(options, yard.suspend, suspend_host)


def _resume(yard: Yard, options: argparse.Namespace) -> int:
    return _run(options, yard.resume, partial(yard.hosts.resume, tenant=options.tenant))


def _run(
    options: argparse.Namespace,
    change_yard: Callable[..., Result[Any]],
    change_host: Callable[..., Result[Any]],
) -> int:
    if options.all == bool(options.names):
        raise InvalidInput("no host was named.", remedy="name the hosts, or specify --all")
    mode = {"check": options.dry_run, "timeout": seconds("timeout", options.timeout)}
    calls = (
        [partial(change_host, name) for name in options.names] if options.names else [change_yard]
    )
    for call in calls:
        for action in call(**mode).plan.actions:
            say.out(f"{'would ' * options.dry_run}{action}")
    return 0
