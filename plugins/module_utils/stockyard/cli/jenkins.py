# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard jenkins drain``: takes a host's node out of service and waits for its builds.
It opens no yard.

The command is intended for the hook of a fleet: it finds the host in the environment of hooks, and
succeeds when the host may be deleted. A host without a node may be deleted.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..clock import Deadline
from ..errors import InvalidInput
from ..integrations.jenkins.client import Controller
from ..integrations.jenkins.drain import drain
from ..integrations.jenkins.node import Node
from . import say
from .command import Command, Group, Option, Options
from .durations import length

HOST = ("owner", "tenant", "fleet", "host")


def _drain(options: Options) -> int:
    _complete(options)
    grace = Deadline(length("grace", options.grace))
    controller = Controller(options.url, options.user, _token(options.token_file), options.ca_path)
    chosen = [node for node in controller.nodes() if _belongs_to_host(node, options)]
    drain(_silent if options.quiet else say.err, controller, chosen, grace)
    return 0


def _complete(options: Options) -> None:
    missing = [f"--{option}" for option in (*HOST, "url") if not getattr(options, option)]
    if missing:
        raise InvalidInput(
            f"{', '.join(missing)} is not set.",
            remedy=f"run the command as a hook, or give {' and '.join(missing)}",
        )


def _belongs_to_host(node: Node, options: Options) -> bool:
    mark = node.mark
    return mark is not None and all(
        getattr(mark, field) == getattr(options, field) for field in HOST
    )


def _token(path: str | None) -> str:
    try:
        return (
            Path(path).read_text(encoding="utf-8").strip()
            if path
            else os.environ.get("JENKINS_API_TOKEN", "")
        )
    except (OSError, ValueError) as error:
        raise InvalidInput("the token cannot be read.", name=str(path), cause=str(error)) from error


def _silent(_line: str) -> None:
    return


JENKINS = Group(
    "jenkins",
    "a fleet's nodes on a Jenkins controller",
    (
        Command(
            "drain",
            "take a host's node out of service and wait for its builds",
            _drain,
            (
                *(
                    Option(
                        f"--{name}",
                        "as a hook receives it",
                        environment=f"STOCKYARD_{name.upper()}",
                    )
                    for name in HOST
                ),
                Option("--url", "by default $JENKINS_URL", environment="JENKINS_URL"),
                Option("--user", "by default $JENKINS_USER_ID", environment="JENKINS_USER_ID"),
                Option(
                    "--token-file",
                    "the API token; by default $JENKINS_API_TOKEN",
                    metavar="FILE",
                ),
                Option("--ca-path", "PEM certificates to trust", metavar="FILE"),
                Option("--grace", "maximum time to wait for builds: 30m", "10m"),
                Option("--quiet", "do not print progress", flag=True),
            ),
            opens_yard=False,
        ),
    ),
)
