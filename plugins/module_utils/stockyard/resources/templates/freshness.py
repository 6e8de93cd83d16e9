# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fresh templates and hosts are: what they have, and what the mirror has by now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ...guest.recipe import recipe
from ...model.host import Host
from ...model.observation import Observation, Template
from ...model.recipe import Recipe
from ...model.template import Source, TemplateSpec
from ...model.versions import Behind, behind
from ...planning.templates import generations, newest
from ..context import Context

# Seconds for a mirror to say what it has.
PATIENCE = 300.0


def lacking(ctx: Context, spec: TemplateSpec, template: Template | None) -> tuple[Behind, ...]:
    """What a generation lacks, by the mirror of its declaration.

    :raises ImageError: when the mirror does not say.
    """
    if template is None:
        return ()
    available = ctx.provider.resolve(
        recipe(spec.image, spec.docker, spec.security), spec.build, ctx.deadline(PATIENCE)
    )
    return behind(ctx.provider.versions(template.record.image), available)


def used(tenant: str, name: str, hosts: Iterable[Host]) -> frozenset[str]:
    """The generations of a template that hosts live on."""
    return frozenset(
        h.record.generation for h in hosts if (h.record.tenant, h.record.template) == (tenant, name)
    )


def hosts_behind(ctx: Context, seen: Observation) -> dict[str, list[dict[str, Any]] | None]:
    """What each host lacks, by uuid: package, installed and available version. ``None`` where that
    is not known.

    Each mirror is asked once, whatever lives on it.

    :raises ImageError: when a mirror does not say.
    """
    of_generation = {
        (t.record.tenant, t.record.name, t.record.generation): t
        for t in seen.templates
        if t.record.phase == "frozen"
    }
    asked: dict[Source, Mapping[str, str]] = {}
    known: dict[str, list[dict[str, Any]] | None] = {}
    answer = {}
    for host in (h.record for h in seen.hosts):
        template = of_generation.get((host.tenant, host.template, host.generation))
        if template and template.record.uuid not in known:
            known[template.record.uuid] = _behind(ctx, template, asked)
        answer[host.uuid] = known[template.record.uuid] if template else None
    return answer


def outdated(seen: Observation) -> set[str]:
    """Hosts, by uuid, that are not of the generation which rules."""
    rulers = {
        key: newest(generations(*key, seen.templates))
        for key in {(h.record.tenant, h.record.template) for h in seen.hosts}
    }
    found = set()
    for host in (h.record for h in seen.hosts):
        ruler = rulers[host.tenant, host.template]
        if ruler and ruler.record.generation != host.generation:
            found.add(host.uuid)
    return found


def _behind(
    ctx: Context, template: Template, asked: dict[Source, Mapping[str, str]]
) -> list[dict[str, Any]] | None:
    source, installed = template.record.source, ctx.provider.versions(template.record.image)
    if source is None or not installed:
        return None
    if source not in asked:
        wanted = Recipe(source.suite, source.packages, early={}, files={}, disk_gib=0)
        asked[source] = ctx.provider.resolve(wanted, source.build, ctx.deadline(PATIENCE))
    return [asdict(one) for one in behind(installed, asked[source])]
