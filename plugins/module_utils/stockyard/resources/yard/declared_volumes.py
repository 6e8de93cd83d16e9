# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a declared yard, as its plan shows them."""

from __future__ import annotations

from dataclasses import replace

from ...planning.declaration import Declaration
from ...planning.plan import Action
from ...planning.volumes import plan_removal
from ..context import Context
from ..volumes import volume_lifecycle


def plan(ctx: Context, declared: Declaration) -> list[Action]:
    """What is to be made or grown before any host is. A source may be one of those that are made
    before.
    """
    actions: list[Action] = []
    coming: set[tuple[str, str]] = set()
    for term in declared.volumes:
        spec = term.spec
        known = (
            replace(spec, source="", snapshot=False)
            if (spec.tenant, spec.source) in coming
            else spec
        )
        found = volume_lifecycle.plan(ctx, known).actions
        if any(a.verb == "create" for a in found):
            coming.add((spec.tenant, spec.name))
            found = tuple(
                replace(a, after={**a.after, "source": spec.source, "snapshot": spec.snapshot})
                for a in found
            )
        actions += found
    return actions


def ahead(ctx: Context, declared: Declaration) -> Context:
    """A context for the plans of hosts, for whom the declared volumes are there."""
    return replace(ctx, coming=frozenset((v.spec.tenant, v.spec.name) for v in declared.volumes))


def plan_deletions(ctx: Context, declared: Declaration) -> list[Action]:
    """What is declared absent, and goes when nobody has it any more."""
    found = ctx.provider.volumes.observe(ctx.owner) if declared.absent_volumes else None
    gone = [found.find(*key) for key in declared.absent_volumes] if found else []
    # Whoever has one goes before, or else it is refused when it is to be done.
    return [action for volume in gone for action in plan_removal(volume, ()).actions]
