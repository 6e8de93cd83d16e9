# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard template``: creates templates from running hosts."""

from __future__ import annotations

import argparse
from typing import Any

from ..model.lease import seconds
from ..model.template import TemplateSpec
from ..yard import Yard
from . import say


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its options to the parser."""
    template = commands.add_parser(
        "template", help="create templates from running hosts"
    ).add_subparsers(required=True, metavar="ACTION")
    create = template.add_parser(
        "create",
        parents=[common],
        help="create a template from a running host, without the identity of the host",
    )
    create.add_argument("name", metavar="NAME", help="the template")
    create.add_argument("--from-host", required=True, metavar="HOST", help="the running host")
    create.add_argument(
        "--revision",
        default="",
        metavar="TEXT",
        help="another text requests another generation of a template that exists",
    )
    create.add_argument("--tenant", default="default")
    create.add_argument(
        "--timeout", default="30m", help="maximum time for the template (default: %(default)s)"
    )
    create.add_argument(
        "--dry-run", action="store_true", help="print the actions, and create nothing"
    )
    create.add_argument("--json", action="store_true", help="print all facts of the template")
    create.set_defaults(run=_create)


def _create(yard: Yard, options: argparse.Namespace) -> int:
    spec = TemplateSpec(
        options.name,
        tenant=options.tenant,
        from_host=options.from_host,
        revision=options.revision,
    )
    timeout = seconds("timeout", options.timeout)
    result = yard.templates.apply(spec, check=options.dry_run, timeout=timeout)
    plan = [str(action) for action in result.plan.actions]
    if options.json:
        say.data({"plan": plan, "templates": [info.to_dict() for info in result.objects]})
        return 0
    for action in plan:
        say.out(f"{'would ' * options.dry_run}{action}")
    return 0
