# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Console command ``stockyard``: its table of commands, errors and exit codes.

Exit codes: 0 success; 1 failure; 2 wrong usage; 3 the lease has expired; 4 no host is free now, or
another controller is at work: try again later. ``exec``, ``ssh`` and ``docker`` have the code of
their command. ``lease exec`` has different codes, see :mod:`.run`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import Busy, InvalidInput, LeaseExpired, StockyardError
from . import connection, parse, say
from .command import Command, Entry, Options, Outcome, Program
from .parse import CommandLine, Section

FAILED, USAGE, OVER, BUSY, INTERRUPTED = 1, 2, 3, 4, 130
NOT_RUNNABLE, NOT_FOUND = 126, 127
# The longest line that is written at once.
LONGEST_LINE = 1 << 16
HELP = "Disposable Docker hosts, forked in a second."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A program that the command starts replaces this
    process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    instruction = os.environ.get("_STOCKYARD_COMPLETE", "") if arguments is None else ""
    try:
        if instruction:
            return parse.answer_shell(LINE, instruction)
        outcome = parse.run(LINE, words)
        return execute(outcome) if isinstance(outcome, Program) else outcome
    except StockyardError as error:
        say.err(f"stockyard: {error}")
        return _code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output closed it. The interpreter must not fail at its end because of
        # that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def execute(program: Program) -> int:
    """Replace this process by a program; return an exit code if that fails."""
    if program.progress:
        say.progress(program.progress)
    sys.stdout.flush()
    try:
        environment = {**os.environ, **program.environment}
        if program.escapes and sys.stdout.isatty():
            return _escaped(program, environment)
        os.execvpe(program.argv[0], program.argv, environment)  # noqa: S606  # the purpose
    except OSError as error:
        say.err(f"stockyard: {program.argv[0]}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


def _escaped(program: Program, environment: dict[str, str]) -> int:
    """Run a program and write its output, with control characters escaped; return its exit code."""
    with subprocess.Popen(
        program.argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        if process.stdout:
            for line in iter(partial(process.stdout.readline, LONGEST_LINE), b""):
                say.out(line.decode(errors="replace").rstrip("\r\n"))
    return process.returncode


def _call(command: Command, options: Options) -> Outcome:
    try:
        if command.elsewhere and options.service:
            return command.elsewhere(options)
        if not command.opens_yard:
            return command.run(options)
        with connection.open_yard(options) as yard:
            return command.run(yard, options)
    except StockyardError as error:
        if not command.failure:
            raise
        say.err(f"stockyard: {error}")
        return command.failure if isinstance(command.failure, int) else command.failure()


def _code(error: StockyardError) -> int:
    kinds = ((LeaseExpired, OVER), (Busy, BUSY), (InvalidInput, USAGE))
    return next((code for kind, code in kinds if isinstance(error, kind)), FAILED)


def _complete(kind: str, values: Mapping[str, Any]) -> list[str]:
    """Return the names of objects for a shell; none if the yard cannot be read."""
    try:
        with connection.open_yard(Options(**{**values, "quiet": True})) as yard:
            if kind == "host":
                return [host["name"] for host in yard.listing().hosts]
            lists: dict[str, Callable[[], Sequence[Any]]] = {
                "template": yard.templates.list,
                "volume": yard.volumes.list,
                "pool": yard.pools.list,
            }
            return sorted({item.name for item in lists[kind]()})
    except StockyardError:
        return []


# Each function imports its command: a command starts in a fraction of a second because it imports
# no other one.


def _list() -> Entry:
    from .ls import LIST

    return LIST


def _show() -> Entry:
    from .ls import SHOW

    return SHOW


def _ssh() -> Entry:
    from .access import SSH

    return SSH


def _ssh_config() -> Entry:
    from .access import SSH_CONFIG

    return SSH_CONFIG


def _exec() -> Entry:
    from .access import EXEC

    return EXEC


def _copy() -> Entry:
    from .access import COPY

    return COPY


def _docker() -> Entry:
    from .access import DOCKER

    return DOCKER


def _tunnel() -> Entry:
    from .access import TUNNEL

    return TUNNEL


def _logs() -> Entry:
    from .logs import LOGS

    return LOGS


def _console() -> Entry:
    from .logs import CONSOLE

    return CONSOLE


def _host() -> Entry:
    from .host import HOST_COMMANDS

    return HOST_COMMANDS


def _branch() -> Entry:
    from .branch import BRANCH

    return BRANCH


def _template() -> Entry:
    from .template import TEMPLATE

    return TEMPLATE


def _init() -> Entry:
    from .declare import INIT

    return INIT


def _plan() -> Entry:
    from .declare import PLAN

    return PLAN


def _apply() -> Entry:
    from .declare import APPLY

    return APPLY


def _destroy() -> Entry:
    from .declare import DESTROY

    return DESTROY


def _volume() -> Entry:
    from .volume import VOLUME

    return VOLUME


def _pool() -> Entry:
    from .pool import POOL

    return POOL


def _lease() -> Entry:
    from .lease import LEASE

    return LEASE


def _ci() -> Entry:
    from .gitlab import CI

    return CI


def _serve() -> Entry:
    from .serve import SERVE

    return SERVE


def _project() -> Entry:
    from .serve import PROJECT

    return PROJECT


def _endpoint() -> Entry:
    from .endpoint import ENDPOINT

    return ENDPOINT


def _jenkins() -> Entry:
    from .jenkins import JENKINS

    return JENKINS


def _reap() -> Entry:
    from .reap import REAP

    return REAP


def _report() -> Entry:
    from .report import REPORT

    return REPORT


def _doctor() -> Entry:
    from .doctor import DOCTOR

    return DOCTOR


def _completion() -> Entry:
    from .completion import COMPLETION

    return COMPLETION


SECTIONS = (
    Section(
        "The whole yard",
        {
            "init": ("write a declaration, yard.yml", _init),
            "plan": ("print what apply would change", _plan),
            "apply": ("converge the yard to its declaration", _apply),
            "destroy": ("delete all hosts of the yard", _destroy),
        },
    ),
    Section(
        "Hosts",
        {
            "ls": ("list the hosts", _list),
            "show": ("show all facts of a host", _show),
            "ssh": ("log in to a host", _ssh),
            "ssh-config": ("print the configuration of OpenSSH for hosts", _ssh_config),
            "exec": ("run a command on a host", _exec),
            "cp": ("copy files to or from a host", _copy),
            "docker": ("run Docker's client on a host", _docker),
            "tunnel": ("forward a local port to a host", _tunnel),
            "logs": ("print the journal of a host or the log of a container", _logs),
            "console": ("print the console log of a host", _console),
            "host": ("create, delete, restart, suspend and resume hosts", _host),
            "branch": ("create hosts from a running host", _branch),
        },
    ),
    Section(
        "Other objects",
        {
            "template": ("list, build, create and delete templates", _template),
            "volume": ("manage volumes", _volume),
            "pool": ("manage pools", _pool),
            "lease": ("lease a ready host", _lease),
            "endpoint": ("serve a Docker API whose containers are virtual machines", _endpoint),
            "ci": ("run jobs of CI systems on leased hosts", _ci),
            "jenkins": ("drain a node on a Jenkins controller", _jenkins),
        },
    ),
    Section(
        "Maintenance",
        {
            "serve": ("keep the yard, and serve its report and leases", _serve),
            "project": ("manage the projects that can lease from stockyard serve", _project),
            "reap": ("delete expired, incomplete and orphaned objects", _reap),
            "report": ("write a page or metrics of the yard", _report),
            "doctor": ("find what is missing on this machine and on the hypervisor", _doctor),
            "completion": ("print the completion of the command for a shell", _completion),
        },
    ),
)
LINE = CommandLine(HELP, SECTIONS, connection.OPTIONS, _call, _complete)


# Not the file name that Python reserves for this purpose: Galaxy rejects collections that contain
# it.
if __name__ == "__main__":
    raise SystemExit(main())
