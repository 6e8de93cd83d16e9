# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard jenkins drain``: takes a host's node out of service and waits for its builds.
It opens no yard.

The command is intended for the hook of a fleet: it finds the host in the environment of hooks, and
succeeds when the host may be deleted. A host without a node may be deleted.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ..clock import Deadline
from ..errors import InvalidInput
from ..integrations.jenkins.client import Controller
from ..integrations.jenkins.drain import drain
from ..integrations.jenkins.node import Node
from . import say
from .durations import length

HOST = ("owner", "tenant", "fleet", "host")


def add(commands: Any) -> None:
    """Add the command and its options to the parser."""
    jenkins = commands.add_parser("jenkins", help="a fleet's nodes on a Jenkins controller")
    actions = jenkins.add_subparsers(required=True, metavar="ACTION")
    drain_parser = actions.add_parser(
        "drain", help="take a host's node out of service and wait for its builds"
    )
    for option in HOST:
        drain_parser.add_argument(
            f"--{option}",
            default=os.environ.get(f"STOCKYARD_{option.upper()}", ""),
            help="as a hook receives it",
        )
    drain_parser.add_argument(
        "--url", default=os.environ.get("JENKINS_URL", ""), help="by default $JENKINS_URL"
    )
    drain_parser.add_argument(
        "--user", default=os.environ.get("JENKINS_USER_ID", ""), help="by default $JENKINS_USER_ID"
    )
    drain_parser.add_argument(
        "--token-file", metavar="FILE", help="the API token; by default $JENKINS_API_TOKEN"
    )
    drain_parser.add_argument(
        "--ca-path", default="", metavar="FILE", help="PEM certificates to trust"
    )
    drain_parser.add_argument("--grace", default="10m", help="maximum time to wait for builds: 30m")
    drain_parser.add_argument("--quiet", action="store_true", help="do not print progress")
    drain_parser.set_defaults(direct=_drain, failure=0)


def _drain(options: argparse.Namespace) -> int:
    _complete(options)
    grace = Deadline(length("grace", options.grace))
    controller = Controller(options.url, options.user, _token(options.token_file), options.ca_path)
    chosen = [node for node in controller.nodes() if _belongs_to_host(node, options)]
    drain(_silent if options.quiet else say.err, controller, chosen, grace)
    return 0


def _complete(options: argparse.Namespace) -> None:
    missing = [f"--{option}" for option in (*HOST, "url") if not getattr(options, option)]
    if missing:
        raise InvalidInput(
            f"{', '.join(missing)} is not set.",
            remedy=f"run the command as a hook, or give {' and '.join(missing)}",
        )


def _belongs_to_host(node: Node, options: argparse.Namespace) -> bool:
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
