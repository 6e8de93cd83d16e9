# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The freshness of templates and hosts: their installed versions, compared with the mirror's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...guest.recipe import RenderedTemplate
from ...model.host import Host
from ...model.observation import Observation, Template
from ...model.recipe import Recipe
from ...model.template import Source
from ...model.versions import MissingUpdate, missing_updates
from ..context import Context

# Seconds for a mirror to list its packages.
PATIENCE = 300.0


def list_missing_updates(
    ctx: Context, declared: RenderedTemplate, template: Template | None
) -> tuple[MissingUpdate, ...]:
    """Return the updates that a generation lacks, according to the mirror of its declaration.

    :raises ImageError: if the mirror does not answer.
    """
    if template is None:
        return ()
    available_versions = ctx.provider.resolve(
        declared.recipe, declared.spec.build, ctx.deadline(PATIENCE)
    )
    installed_versions = _installed_versions(ctx, template)
    if template.record.derivation and declared.spec.parent:
        # The parent's own packages are updated by its next generation.
        added = template.record.derivation.packages
        available_versions = {
            name: version for name, version in available_versions.items() if name in added
        }
    return missing_updates(installed_versions, available_versions)


def used_generations(tenant: str, name: str, hosts: Iterable[Host]) -> frozenset[str]:
    """Return the generations of a template that hosts use."""
    return frozenset(
        host.record.generation
        for host in hosts
        if (host.record.tenant, host.record.template) == (tenant, name)
    )


def updates_of_hosts(
    ctx: Context, observation: Observation
) -> dict[str, tuple[MissingUpdate, ...] | None]:
    """Return the updates that each host lacks, by uuid: package, installed and available version.
    The value is ``None`` if they are not known.

    Each mirror is asked once for all its hosts.

    :raises ImageError: if a mirror does not answer.
    """
    of_generation = {
        (frozen.record.tenant, frozen.record.name, frozen.record.generation): frozen
        for frozen in observation.templates
        if frozen.record.phase == "frozen"
    }
    available_versions: dict[Source, Mapping[str, str]] = {}
    updates_by_template: dict[str, tuple[MissingUpdate, ...] | None] = {}
    updates_by_host = {}
    for host in (member.record for member in observation.hosts):
        template = of_generation.get((host.tenant, host.template, host.generation))
        if template and template.record.uuid not in updates_by_template:
            updates_by_template[template.record.uuid] = _updates_of_template(
                ctx, template, available_versions
            )
        updates_by_host[host.uuid] = updates_by_template[template.record.uuid] if template else None
    return updates_by_host


def outdated(observation: Observation) -> set[str]:
    """Return the uuids of hosts that are not of the current generation of their template."""
    current_generations = {
        key: observation.template(*key)
        for key in {(member.record.tenant, member.record.template) for member in observation.hosts}
    }
    uuids = set()
    for host in (member.record for member in observation.hosts):
        current_generation = current_generations[host.tenant, host.template]
        if current_generation and current_generation.record.generation != host.generation:
            uuids.add(host.uuid)
    return uuids


def _updates_of_template(
    ctx: Context, template: Template, available_versions: dict[Source, Mapping[str, str]]
) -> tuple[MissingUpdate, ...] | None:
    source, installed_versions = template.record.source, _installed_versions(ctx, template)
    if source is None or not installed_versions:
        return None
    if source not in available_versions:
        package_recipe = Recipe(source.suite, source.packages, early={}, files={}, disk_gib=0)
        available_versions[source] = ctx.provider.resolve(
            package_recipe, source.build, ctx.deadline(PATIENCE)
        )
    return missing_updates(installed_versions, available_versions[source])


def _installed_versions(ctx: Context, template: Template) -> dict[str, str]:
    """Return the version of every package in a generation; empty if they are not known."""
    versions = dict(ctx.provider.versions(template.record.image))
    derivation = template.record.derivation
    return {**versions, **derivation.packages} if versions and derivation else versions
