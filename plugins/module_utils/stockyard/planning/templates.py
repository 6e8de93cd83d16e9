# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a template: its current generation, whether to build a new one, and the old
generations to delete.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..model import codec
from ..model.observation import Template, generations, newest
from ..model.template import TemplateRecord, TemplateSpec
from ..model.versions import MissingUpdate
from .plan import Action, Plan, delete_action

SHOWN = 5
DECLARATION_CHANGED = "its declaration changed"
GUEST_FILES_CHANGED = (
    "stockyard's agent or guest files changed with its version; the declaration did not"
)


@dataclass(frozen=True)
class TemplateContext:
    """The facts that a plan needs in addition to declaration and templates.

    :param now: seconds since the epoch.
    :param missing_updates: packages that are outdated in the generation that would become current.
    :param used: generations that hosts were forked from; ``None`` if unknown, and then no
        generation is deleted.
    :param options: digest of the declaration's options alone.
    :param parent_pending: whether the parent of a derived template will have a generation that does
        not exist yet.
    :param base: a generation without images, commands and playbook from which an ordinary template
        can be derived instead of being built.
    """

    now: float = 0.0
    missing_updates: tuple[MissingUpdate, ...] = ()
    used: frozenset[str] | None = None
    options: str = ""
    parent_pending: bool = False
    base: TemplateRecord | None = None


def plan_template(
    spec: TemplateSpec,
    declared: str,
    templates: Iterable[Template],
    context: TemplateContext | None = None,
) -> Plan:
    """Return the plan of a template.

    :param declared: digest of the declaration.
    """
    context = context or TemplateContext()
    own_templates = generations(spec.tenant, spec.name, templates)
    target, current = candidate(spec, declared, own_templates), newest(own_templates)
    reason = (
        _missing(spec, declared, own_templates, current, context)
        if target is None
        else _stale(spec, target, context)
    )
    if reason:
        return Plan(
            (
                _build(spec, declared, current, reason, context.base),
                *_surplus(spec, own_templates, None, context),
            )
        )
    actions = (
        []
        if target is current or target is None or current is None
        else [_promote(target, current)]
    )
    return Plan((*actions, *_surplus(spec, own_templates, target, context)))


def candidate(spec: TemplateSpec, declared: str, templates: Iterable[Template]) -> Template | None:
    """Return the newest usable generation of this declaration. One whose memory the hypervisor
    can resume is preferred.
    """
    own_templates = generations(spec.tenant, spec.name, templates)
    declared_templates = [
        template for template in own_templates if template.record.recipe == declared
    ]
    matching = newest(template for template in declared_templates if not template.mismatch)
    return matching or newest(declared_templates)


def too_old(spec: TemplateSpec, record: TemplateRecord, current_time: float) -> bool:
    """Return whether a generation is older than its declared maximum age."""
    return spec.max_age is not None and current_time - record.created >= spec.max_age


def _build(
    spec: TemplateSpec,
    declared: str,
    current: Template | None,
    reason: str,
    base: TemplateRecord | None,
) -> Action:
    after: dict[str, Any] = {
        "recipe": declared[:12],
        "docker": spec.docker,
        **codec.to_dict(spec.hardware),
        **({"from": spec.parent} if spec.parent else {}),
    }
    if spec.from_host:
        # The rest is what the host is.
        after = {"recipe": declared[:12], "from_host": spec.from_host}
    title = spec.provision.title if spec.provision else ""
    before: dict[str, Any] = {}
    if current:
        record = current.record
        before = {
            "recipe": record.recipe[:12],
            "docker": record.docker,
            **codec.to_dict(record.hardware),
            **({"from": record.derivation.parent} if record.derivation else {}),
            **({"from_host": record.from_host} if record.from_host else {}),
        }
        if title or record.provision:
            before, after = {**before, "provision": record.provision}, {**after, "provision": title}
        if before == after:
            # Only the packages or the age differ: show the reason in the diff, too.
            before, after = (
                {**before, "generation": record.generation[:12]},
                {**after, "generation": f"new: {reason}"},
            )
    elif title:
        after["provision"] = title
    if spec.from_host:
        reason += f"; it will be created from host {spec.from_host}"
    if base:
        reason += f"; it will be derived from {base.title}"
    runs = f"; {title} will run in it" * bool(title)
    return Action("build", "template", spec.name, reason + runs, before, after)


def _missing(
    spec: TemplateSpec,
    declared: str,
    own_templates: list[Template],
    current: Template | None,
    context: TemplateContext,
) -> str:
    if current is None:
        return next(
            (template.problem for template in reversed(own_templates) if template.problem),
            "it is incomplete" if own_templates else "it does not exist",
        )
    damaged_template = next(
        (
            template
            for template in reversed(own_templates)
            if template.record.recipe == declared and template.problem
        ),
        None,
    )
    return damaged_template.problem if damaged_template else _changed(spec, current.record, context)


def _changed(spec: TemplateSpec, record: TemplateRecord, context: TemplateContext) -> str:
    """Return the reason why a declaration has another digest than the current generation."""
    if record.options:
        if record.options != context.options:
            return DECLARATION_CHANGED
        if spec.parent:
            verb = "will have" if context.parent_pending else "has"
            return f"its parent {spec.parent} {verb} another generation"
        return GUEST_FILES_CHANGED
    # The record is of a version that did not store the digest of the options. A difference that the
    # record shows is the user's; otherwise only the files of the guest are known to differ.
    if record.source and record.source.suite != spec.image.suite:
        return f"its release is {spec.image.suite}, and was {record.source.suite}"
    return DECLARATION_CHANGED if _differs(spec, record) else GUEST_FILES_CHANGED


def _differs(spec: TemplateSpec, record: TemplateRecord) -> bool:
    """Return whether a record shows that the options of its template changed."""
    title = spec.provision.title if spec.provision else ""
    packages = record.source.packages if record.source else spec.image.packages
    is_built = not spec.image.source
    return (
        (record.docker, record.ssh_user, record.provision, record.encrypted)
        != (spec.docker, spec.image.ssh_user, title, spec.security.encrypted_data)
        or not set(packages) >= set(spec.image.packages)
        # A source on the hypervisor decides these itself.
        or (is_built and record.hardware != spec.hardware)
        or (is_built and record.max_memory_mib != spec.max_memory_mib)
        or (is_built and record.disk_gib not in (0, spec.image.disk_gib))
    )


def _stale(spec: TemplateSpec, target: Template, context: TemplateContext) -> str:
    if context.missing_updates:
        suffix = (
            f" and {len(context.missing_updates) - SHOWN} more"
            if len(context.missing_updates) > SHOWN
            else ""
        )
        return f"package updates: {', '.join(map(str, context.missing_updates[:SHOWN]))}{suffix}"
    if too_old(spec, target.record, context.now) and spec.max_age is not None:
        return f"it is older than {timedelta(seconds=spec.max_age)}"
    # A template that is created from a host is built by an explicit act only.
    if target.mismatch and not spec.from_host:
        return f"its memory cannot be resumed: {target.mismatch}"
    return ""


def _promote(target: Template, current: Template) -> Action:
    before, after = (
        {"generation": template.record.generation[:12]} for template in (current, target)
    )
    return Action(
        "promote",
        "template",
        target.record.name,
        "its earlier declaration is declared again",
        before,
        after,
    )


def _surplus(
    spec: TemplateSpec,
    own_templates: list[Template],
    upcoming: Template | None,
    context: TemplateContext,
) -> list[Action]:
    """Return the actions that delete old generations: those beyond the kept number, and without
    hosts.

    :param upcoming: the generation that will be current; ``None`` if it is not built yet.
    """
    if context.used is None:
        return []
    origin = upcoming.record.derivation if upcoming else None
    base = context.base.generation if context.base else origin.generation if origin else ""
    # The base of the current generation stays: the next change can be derived from it, too.
    superseded = [
        template
        for template in reversed(own_templates)
        if template.usable and template is not upcoming and template.record.generation != base
    ]
    reason = f"only {spec.keep_generations} generations are retained"
    return [
        delete_action(
            "template",
            f"{spec.name} ({template.record.generation[:12]})",
            reason,
            {"generation": template.record.generation[:12]},
        )
        for template in superseded[spec.keep_generations - 1 :]
        if template.record.generation not in context.used
    ]
