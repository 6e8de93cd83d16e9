# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a template: which generation rules, whether there is to be a new one, and
which go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..model import codec
from ..model.observation import Template
from ..model.template import TemplateRecord, TemplateSpec
from ..model.versions import Behind
from .plan import Action, Plan, gone

SHOWN = 5


@dataclass(frozen=True)
class TemplateContext:
    """What a plan has to know beside declaration and templates.

    :param now: seconds since the epoch.
    :param behind: what the generation lacks that would rule.
    :param used: generations that hosts live on; ``None`` where that is not known, and then none
        goes.
    """

    now: float = 0.0
    behind: tuple[Behind, ...] = ()
    used: frozenset[str] | None = None


def plan_template(
    spec: TemplateSpec,
    declared: str,
    found: Iterable[Template],
    outside: TemplateContext | None = None,
) -> Plan:
    """What is to be done for a template.

    :param declared: digest of the declaration.
    """
    outside = outside or TemplateContext()
    mine = generations(spec.tenant, spec.name, found)
    chosen, ruling = candidate(spec, declared, mine), newest(mine)
    reason = _missing(declared, mine, ruling) if chosen is None else _stale(spec, chosen, outside)
    if reason:
        return Plan((_build(spec, declared, ruling, reason), *_surplus(spec, mine, None, outside)))
    actions = (
        [] if chosen is ruling or chosen is None or ruling is None else [_promote(chosen, ruling)]
    )
    return Plan((*actions, *_surplus(spec, mine, chosen, outside)))


def candidate(spec: TemplateSpec, declared: str, found: Iterable[Template]) -> Template | None:
    """The generation of this declaration that rules, or would."""
    mine = generations(spec.tenant, spec.name, found)
    return newest(t for t in mine if t.record.recipe == declared)


def too_old(spec: TemplateSpec, record: TemplateRecord, now: float) -> bool:
    """Whether a generation is older than it may be."""
    return spec.max_age is not None and now - record.created >= spec.max_age


def generations(tenant: str, name: str, found: Iterable[Template]) -> list[Template]:
    """All generations of a template; the one comes last that rules, if it can be used."""
    mine = [t for t in found if (t.record.tenant, t.record.name) == (tenant, name)]
    return sorted(mine, key=lambda t: (t.record.since, t.record.uuid))


def newest(found: Iterable[Template]) -> Template | None:
    """The generation that rules: forks are made of it."""
    usable = [t for t in found if t.usable]
    return max(usable, key=lambda t: (t.record.since, t.record.uuid), default=None)


def _build(spec: TemplateSpec, declared: str, ruling: Template | None, reason: str) -> Action:
    after: dict[str, Any] = {
        "recipe": declared[:12],
        "docker": spec.docker,
        **codec.to_dict(spec.hardware),
    }
    title = spec.provision.title if spec.provision else ""
    before: dict[str, Any] = {}
    if ruling:
        record = ruling.record
        before = {
            "recipe": record.recipe[:12],
            "docker": record.docker,
            **codec.to_dict(record.hardware),
        }
        if title or record.provision:
            before, after = {**before, "provision": record.provision}, {**after, "provision": title}
        if before == after:
            # It is the packages that differ, or the time: say what the reason says, in the diff
            # too.
            before, after = (
                {**before, "generation": record.generation[:12]},
                {**after, "generation": f"new: {reason}"},
            )
    elif title:
        after["provision"] = title
    runs = f", and {title} is run in it" * bool(title)
    return Action("build", "template", spec.name, reason + runs, before, after)


def _missing(declared: str, mine: list[Template], ruling: Template | None) -> str:
    if ruling is None:
        return next(
            (t.problem for t in reversed(mine) if t.problem),
            "it was left half-made" if mine else "there is none",
        )
    damaged = next((t for t in reversed(mine) if t.record.recipe == declared and t.problem), None)
    return damaged.problem if damaged else "its declaration changed"


def _stale(spec: TemplateSpec, chosen: Template, outside: TemplateContext) -> str:
    if outside.behind:
        more = f" and {len(outside.behind) - SHOWN} more" if len(outside.behind) > SHOWN else ""
        return f"packages moved: {', '.join(map(str, outside.behind[:SHOWN]))}{more}"
    if too_old(spec, chosen.record, outside.now) and spec.max_age is not None:
        return f"it is older than {timedelta(seconds=spec.max_age)}"
    return ""


def _promote(chosen: Template, ruling: Template) -> Action:
    before, after = ({"generation": t.record.generation[:12]} for t in (ruling, chosen))
    return Action("promote", "template", chosen.record.name, "it is declared again", before, after)


def _surplus(
    spec: TemplateSpec, mine: list[Template], ruler: Template | None, outside: TemplateContext
) -> list[Action]:
    """Old generations that go: beyond those that are kept, and under no host.

    :param ruler: the one that will rule; ``None`` for one that is still to be built.
    """
    if outside.used is None:
        return []
    others = [t for t in reversed(mine) if t.usable and t is not ruler]
    why = f"{spec.keep_generations} generations are kept"
    return [
        gone(
            "template",
            f"{spec.name} ({t.record.generation[:12]})",
            why,
            {"generation": t.record.generation[:12]},
        )
        for t in others[spec.keep_generations - 1 :]
        if t.record.generation not in outside.used
    ]
