# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard template``: lists, builds, creates, transfers and deletes templates."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..model.template import TemplateSpec
from ..planning.declaration import Declaration, TemplateTerm
from . import locate, say
from .command import (
    DRY_RUN,
    JSON,
    TENANT,
    Argument,
    Command,
    Group,
    Option,
    Options,
    timeout,
)
from .declare import REBUILD, declared
from .durations import change_mode
from .template_transfer import TRANSFERS, TRUST

if TYPE_CHECKING:
    from ..model.template_info import TemplateInfo
    from ..yard import Yard

NAME = Argument("name", "NAME", "the template", complete="template")
HEADINGS = ("NAME", "GENERATION", "PHASE", "USABLE", "VCPUS", "MEMORY", "CREATED", "TENANT")


def _list(yard: Yard, options: Options) -> int:
    return say.listing(options, yard.templates.list(options.tenant or None), HEADINGS, _row)


def _row(template: TemplateInfo) -> tuple[str, ...]:
    return (
        template.name,
        template.generation,
        template.phase,
        "yes" if template.usable else "no",
        f"{template.hardware.vcpus}",
        f"{template.hardware.memory_mib} MiB",
        f"{datetime.fromtimestamp(template.created, UTC):%Y-%m-%d %H:%M}",
        template.tenant,
    )


def _create(yard: Yard, options: Options) -> int:
    spec = TemplateSpec(
        options.name,
        tenant=options.tenant,
        from_host=options.from_host,
        revision=options.revision,
    )
    return say.changes(options, [yard.templates.apply(spec, **change_mode(options))], "templates")


def _build(yard: Yard, options: Options) -> int:
    file = locate.required(options.yard)
    whole = declared(file, options.rebuild, "no")
    names = {term.spec.name for term in whole.templates}
    unknown = sorted(set(options.names) - names)
    if unknown:
        raise InvalidInput(
            f"template {unknown[0]} is not declared.",
            name=f"declaration {file.path}",
            remedy=f"name one of {', '.join(sorted(names))}" if names else "declare it",
        )
    chosen = tuple(
        _shared(term, options)
        for term in whole.templates
        if not options.names or term.spec.name in options.names
    )
    result = yard.apply(Declaration(templates=chosen), check=options.dry_run)
    plan = [str(action) for action in result.plan.actions]
    if options.json:
        built = [yard.templates.list(term.spec.tenant, term.spec.name)[-1:] for term in chosen]
        generations = [template.to_dict() for item in built for template in item]
        say.data({"changed": result.changed, "plan": plan, "templates": generations})
    else:
        say.actions(options, plan)
    return 0


def _shared(term: TemplateTerm, options: Options) -> TemplateTerm:
    """Return a declared template with the options of the command about sharing."""
    spec = term.spec
    if options.share_dir and not spec.from_host:
        spec = replace(spec, share_dir=os.path.abspath(options.share_dir))
    if options.trust:
        spec = replace(spec, trusted_keys=(*spec.trusted_keys, *options.trust))
    return replace(term, spec=spec)


def _delete(yard: Yard, options: Options) -> int:
    result = yard.templates.delete(options.name, options.tenant, **change_mode(options))
    return say.changes(options, [result], "templates")


def _prune(yard: Yard, options: Options) -> int:
    names = yard.templates.prune(check=options.dry_run)
    if options.json:
        say.data({"changed": bool(names), "deleted": list(names)})
        return 0
    say.actions(options, [f"delete {name}" for name in names])
    return 0


TEMPLATE = Group(
    "template",
    "list, build, create, transfer and delete templates",
    (
        Command(
            "ls",
            "list all generations of templates, the current one last",
            _list,
            (Option("--tenant", "only this tenant"), JSON),
        ),
        Command(
            "build",
            "build declared templates, or all of them",
            _build,
            (
                Argument("names", "NAME", "the templates", many=True, required=False),
                REBUILD,
                Option(
                    "--share-dir",
                    "load the templates from this directory if other owners saved them there, else "
                    "save them there; by default as declared",
                    metavar="DIR",
                ),
                TRUST,
                DRY_RUN,
                JSON,
            ),
        ),
        Command(
            "create",
            "create a template from a running host, without the identity of the host",
            _create,
            (
                Argument("name", "NAME", "the template"),
                Option("--from-host", "the running host", metavar="HOST", required=True),
                Option(
                    "--revision",
                    "another text requests another generation of a template that exists",
                    metavar="TEXT",
                ),
                TENANT,
                timeout("30m"),
                DRY_RUN,
                JSON,
            ),
        ),
        Command(
            "delete",
            "delete all generations of a template",
            _delete,
            (NAME, TENANT, timeout("10m"), DRY_RUN, JSON),
        ),
        Command(
            "prune",
            "delete old generations without hosts, and images without templates",
            _prune,
            (DRY_RUN, JSON),
        ),
        *TRANSFERS,
    ),
)
