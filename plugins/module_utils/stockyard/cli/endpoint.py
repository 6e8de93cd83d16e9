# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard endpoint``: serves a Docker API whose containers are virtual machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..endpoint.serve import serve
from ..yard import Yard


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    actions = commands.add_parser(
        "endpoint", help="serve a Docker API whose containers are virtual machines"
    ).add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser("serve", parents=[common], help="serve until SIGTERM")
    command.add_argument(
        "--unix", type=Path, required=True, metavar="PATH", help="the Unix socket to serve"
    )
    command.add_argument(
        "--name", default="endpoint", help="name of the endpoint (default: %(default)s)"
    )
    command.add_argument(
        "--image-host",
        default="images",
        metavar="HOST",
        help="the running host with the images (default: %(default)s)",
    )
    command.add_argument("--tenant", default="default")
    command.set_defaults(run=_serve)


def _serve(yard: Yard, options: argparse.Namespace) -> int:
    serve(yard, options.unix, options.name, options.image_host, options.tenant)
    return 0
