# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done for a template."""

from __future__ import annotations

from collections.abc import Iterable

from . import codec
from .plan import Action, Plan
from .provider import Template
from .template import TemplateSpec


def plan_template(spec: TemplateSpec, declared: str, found: Iterable[Template]) -> Plan:
    """What is to be done for a template.

    :param declared: digest of the declaration.
    """
    after = {"recipe": declared[:12], "docker": spec.docker, **codec.to_dict(spec.hardware)}
    mine = generations(spec.tenant, spec.name, found)
    if any(t.usable and t.record.recipe == declared for t in mine):
        return Plan()
    current = newest(mine)
    if current is None:
        reason = _why_unusable(mine)
        return Plan((Action("build", "template", spec.name, reason, {}, after),))
    before = {
        "recipe": current.record.recipe[:12],
        "docker": current.record.docker,
        **codec.to_dict(current.record.hardware),
    }
    damaged = next((t for t in reversed(mine) if t.record.recipe == declared and t.problem), None)
    reason = damaged.problem if damaged else "its declaration changed"
    return Plan((Action("build", "template", spec.name, reason, before, after),))


def _why_unusable(mine: list[Template]) -> str:
    if not mine:
        return "there is none"
    return next((t.problem for t in reversed(mine) if t.problem), "it was left half-made")


def generations(tenant: str, name: str, found: Iterable[Template]) -> list[Template]:
    """All generations of a template, oldest first."""
    mine = [t for t in found if (t.record.tenant, t.record.name) == (tenant, name)]
    return sorted(mine, key=lambda t: t.record.created)


def newest(found: Iterable[Template]) -> Template | None:
    """The newest generation that forks can be made of."""
    usable = [t for t in found if t.usable]
    return max(usable, key=lambda t: t.record.created, default=None)
