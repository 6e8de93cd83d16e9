# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options, errors and exit codes of the console command.

Exit codes: 0 success; 1 failure; 2 wrong usage; 3 the lease has expired; 4 no host is free now, or
another controller is at work: try again later. ``lease exec`` has different codes, see
:mod:`.run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import Busy, InvalidInput, LeaseExpired, StockyardError
from ..yard import DEFAULT_OWNER, Yard
from . import branch, endpoint, host, jenkins, lease, reap, say, template

FAILED, USAGE, OVER, BUSY = 1, 2, 3, 4
Command = Callable[[Yard, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    try:
        if "direct" in options:
            return int(options.direct(options))
        with _open(options) as yard:
            command: Command = options.run
            return command(yard, options)
    except StockyardError as error:
        say.err(f"stockyard: {error}")
        return options.failure or _code(error)
    except BrokenPipeError:
        # The reader of the output closed it. The interpreter must not fail at its end because of
        # that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    common = _common()
    top = argparse.ArgumentParser(prog="stockyard", description="Container hosts as cattle.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    lease.add(commands, common)
    host.add(commands, common)
    branch.add(commands, common)
    template.add(commands, common)
    endpoint.add(commands, common)
    reap.add(commands, common)
    jenkins.add(commands)
    return top


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("the yard")
    owner = os.environ.get("STOCKYARD_OWNER") or DEFAULT_OWNER
    group.add_argument(
        "--hypervisor", default="", metavar="URI", help="by default $STOCKYARD_HYPERVISOR"
    )
    group.add_argument(
        "--owner", default=owner, help="by default $STOCKYARD_OWNER, else %(default)s"
    )
    group.add_argument(
        "--storage", metavar="DIR", help="directory or datastore of the hypervisor's files"
    )
    group.add_argument("--pki-dir", metavar="DIR", help="directory of keys and certificates")
    group.add_argument(
        "--ca-certificate",
        metavar="FILE",
        help="the tenant's CA, as PEM, instead of one in --pki-dir",
    )
    group.add_argument("--ca-private-key", metavar="FILE", help="its private key")
    group.add_argument(
        "--volume-key",
        metavar="FILE",
        help="secret from which the keys of encrypted volumes are derived",
    )
    group.add_argument("--quiet", action="store_true", help="do not print progress")
    common.set_defaults(failure=0)
    return common


def _open(options: argparse.Namespace) -> Yard:
    return Yard(
        options.hypervisor,
        owner=options.owner,
        storage=options.storage,
        pki_dir=options.pki_dir,
        ca_certificate=_read(options.ca_certificate),
        ca_private_key=_read(options.ca_private_key),
        volume_key=_read(options.volume_key).strip(),
        progress=None if options.quiet else say.err,
    )


def _read(path: str | None) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError) as error:
        raise InvalidInput("the file cannot be read.", name=str(path), cause=str(error)) from error


def _code(error: StockyardError) -> int:
    kinds = ((LeaseExpired, OVER), (Busy, BUSY), (InvalidInput, USAGE))
    return next((code for kind, code in kinds if isinstance(error, kind)), FAILED)


# Not the file name that Python reserves for this purpose: Galaxy rejects collections that contain
# it.
if __name__ == "__main__":
    raise SystemExit(main())
