# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard lease``: leases hosts from a shell, renews and releases the leases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..clients.work_tree import check_directory
from ..errors import InvalidInput, StockyardError
from ..model.access_info import export_line
from ..model.host import SUSPENDED
from ..model.lease_info import LeaseInfo
from ..model.path_pattern import PathPattern
from . import run, say, served_lease
from .command import JSON, TENANT, Argument, Command, Group, Option, Options, label, pairs
from .durations import length
from .holder import default_holder, number

if TYPE_CHECKING:
    from ..clients.leases import HeldLease
    from ..result import Result
    from ..yard import Yard

TEXT = """\b
take prints a line that a POSIX shell takes the environment from:
  eval "$(stockyard lease take --fleet ci --duration 30m)"
  docker info
  stockyard lease release

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the lease has expired, 4 no host is free or another
controller is at work.
exec: the command's own; 124 the lease was lost, 125 stockyard failed, 126 and 127 as with
env(1)."""
# Options that select the host.
SELECTION = (
    Option("--fleet", "the fleet to lease from"),
    Option("--pool", "the pool to lease from"),
    label("a label that the host must have"),
    TENANT,
    Option("--holder", "by default user@machine", environment="STOCKYARD_HOLDER"),
    Option("--duration", "duration: 90s, 45m, 2h", "1h"),
    Option(
        "--wait",
        "maximum time to wait for a host, which is created if its fleet may grow; 10m without a "
        "value",
        "0s",
        metavar="[DURATION]",
        bare="10m",
    ),
)
NUMBER = Argument(
    "id",
    "NUMBER",
    "the number of the lease, by default $STOCKYARD_LEASE",
    required=False,
    environment="STOCKYARD_LEASE",
)


def _taken(yard: Yard, options: Options) -> HeldLease:
    return yard.leases.acquire(
        options.fleet,
        holder=options.holder or default_holder(),
        duration=length("duration", options.duration),
        labels=pairs("--label", options.label),
        tenant=options.tenant,
        pool=options.pool,
        wait=length("wait", options.wait),
        replace=not getattr(options, "no_replace", True),
    )


def _take(yard: Yard, options: Options) -> int:
    return _print(options, _taken(yard, options).info)


def _renew(yard: Yard, options: Options) -> int:
    return _report(
        options, yard.leases.renew(number(options), length("duration", options.duration))
    )


def _release(yard: Yard, options: Options) -> int:
    return _report(options, yard.leases.release(number(options), replace=options.replace))


def _suspend(yard: Yard, options: Options) -> int:
    return _report(options, yard.leases.suspend(number(options)))


def _resume(yard: Yard, options: Options) -> int:
    return _report(options, yard.leases.resume(number(options)))


def _report(options: Options, result: Result[LeaseInfo]) -> int:
    """Write the result of a change as JSON; without the option, success is silent."""
    return say.changes(options, [result], "leases") if options.json else 0


def _env(yard: Yard, options: Options) -> int:
    info = next(
        (lease for lease in yard.leases.list() if lease.id == number(options) and not lease.ended),
        None,
    )
    if info is None:
        from ..resources.leases import lease_numbers

        raise lease_numbers.expired_error(yard.context, number(options))
    return _print(options, info)


def _print(options: Options, info: LeaseInfo) -> int:
    """Write the environment of a lease, or its facts as JSON."""
    if options.json:
        say.data(info.to_dict())
    else:
        say.shell(_line(info))
    return 0


def _list(yard: Yard, options: Options) -> int:
    leases = yard.leases.list(options.tenant or None, options.fleet or None, options.holder or None)
    if options.json:
        say.data([lease.to_dict() for lease in leases])
        return 0
    for lease in leases:
        end = datetime.fromtimestamp(lease.until, UTC)
        until = "ended" if lease.ended else f"{end:%Y-%m-%dT%H:%M:%SZ}"
        say.out(f"{lease.id}  {until}  {lease.fleet}/{lease.host}  {lease.holder}")
    return 0


def _exec(yard: Yard, options: Options) -> int:
    duration = options.keep_on_failure and length("keep-on-failure", options.keep_on_failure)
    # Both are checked before a host is leased.
    patterns = [PathPattern(text) for text in options.fetch]
    directory = check_directory(options.sync) if options.sync else None
    if patterns and not directory:
        raise InvalidInput(
            "--fetch needs a directory to write to.", remedy="set --sync, such as --sync ."
        )
    with run.ended_by_signals(), _taken(yard, options) as lease:
        code = (
            _run_in_copy(yard, lease, directory, patterns, options.command)
            if directory
            else run.run(lease, options.command, yard.context.clock)
        )
        if duration and run.failed(code):
            _keep(lease, duration)
        return code


def _run_in_copy(
    yard: Yard,
    lease: HeldLease,
    directory: Path,
    patterns: list[PathPattern],
    command: tuple[str, ...],
) -> int:
    """Copy a directory to the host, run a command in the copy, and fetch files from it."""
    context = yard.context
    tree = lease.work_tree(directory)
    if note := tree.send(context.deadline(lease.until - context.clock.now())):
        say.err(f"stockyard: {note}")
    code = run.run(lease, tree.command(command), context.clock)
    if not patterns or code == run.LOST:
        return code
    try:
        lease.renew()
        names = tree.fetch(patterns, context.deadline(lease.until - context.clock.now()))
    except StockyardError as error:
        say.err(f"stockyard: nothing more is fetched: {error}")
        return code or run.FAILED
    say.err(f"stockyard: {len(names)} files were fetched into {directory}")
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


LEASE = Group(
    "lease",
    "lease a ready host",
    (
        Command(
            "take",
            "lease a host and print its environment",
            _take,
            (*SELECTION, JSON, *served_lease.OPTIONS),
            elsewhere=served_lease.take,
        ),
        Command(
            "renew",
            "renew a lease",
            _renew,
            (
                NUMBER,
                Option("--duration", "duration from now: 45m, 2h", "1h"),
                JSON,
                *served_lease.OPTIONS,
            ),
            elsewhere=served_lease.renew,
        ),
        Command(
            "release",
            "release a host, which deletes it",
            _release,
            (
                NUMBER,
                Option("--replace", "create a replacement immediately", flag=True),
                JSON,
                *served_lease.OPTIONS,
            ),
            elsewhere=served_lease.release,
        ),
        Command("suspend", "suspend the host, and keep the lease", _suspend, (NUMBER, JSON)),
        Command("resume", "resume the host, and keep the lease", _resume, (NUMBER, JSON)),
        Command(
            "env",
            "print the environment again",
            _env,
            (NUMBER, JSON, *served_lease.OPTIONS),
            elsewhere=served_lease.env,
        ),
        Command(
            "list",
            "list leases",
            _list,
            (
                Option("--holder", "the holder"),
                Option("--fleet", "the fleet of the host"),
                Option("--tenant", "the tenant"),
                JSON,
                *served_lease.OPTIONS,
            ),
            elsewhere=served_lease.print_list,
        ),
        Command(
            "exec",
            "run a command with a leased host, and replace the host",
            _exec,
            (
                *SELECTION,
                Option("--no-replace", "do not create another host in its place", flag=True),
                Option(
                    "--sync",
                    "copy this directory to the host, and run the command there, in the copy",
                    metavar="DIR",
                ),
                Option(
                    "--fetch",
                    "with --sync: copy these files back after the command: 'reports/**'",
                    metavar="GLOB",
                    many=True,
                ),
                Option(
                    "--keep-on-failure",
                    "if the command fails, keep the host suspended under a separate name: 2h",
                    metavar="DURATION",
                ),
                Argument("command", "COMMAND", "after --, with its arguments", many=True),
                *served_lease.OPTIONS,
            ),
            failure=run.FAILED,
            elsewhere=served_lease.execute,
        ),
    ),
    text=TEXT,
)
