# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names in a declaration, held against what is there before anything is changed."""

from __future__ import annotations

from ...errors import NotFound
from ...model.observation import Observation
from ...planning.declaration import Declaration, Key
from ...planning.templates import generations, newest
from ..context import Context


def check(ctx: Context, declared: Declaration, seen: Observation | None = None) -> None:
    """Refuse a declaration that needs what is neither declared nor there.

    :param seen: what is there; looked at only where something is needed that is not declared.
    :raises NotFound: naming all of it.
    """
    if not declared.needed:
        return
    seen = seen or ctx.provider.observe(ctx.owner)
    there = _there(declared, seen) | _volumes(ctx, declared)
    missing = [r for r in declared.needed if (r.kind, r.key) not in there]
    if missing:
        first, others = missing[0], [f"{r.whose} needs {r.kind} {r.key[1]}" for r in missing[1:]]
        raise NotFound(
            f"it needs {first.kind} {first.key[1]}, which is neither declared nor there.",
            name=first.whose,
            cause=f"nor is what others need: {', '.join(others)}" if others else "",
            remedy="correct the name, or declare that too, in the same tenant",
        )


def tell_kept(ctx: Context, declared: Declaration, seen: Observation) -> None:
    """Say what stays for no other reason than that nothing of its kind is declared."""
    there = {
        "fleets": {h.record.fleet for h in seen.hosts}
        - {name for _tenant, name in declared.absent_fleets},
        "templates": {t.record.name for t in seen.templates}
        - {name for _tenant, name in declared.absent_templates},
        "pools": {p.name for p in seen.pools} - {name for _tenant, name in declared.absent_pools},
    }
    for kind in declared.in_doubt:
        names = ", ".join(sorted(filter(None, there[kind])))
        if names:
            ctx.progress(
                f"no {kind} are declared, more likely lost than meant: {names} will stay (prune: "
                f"force)"
            )


def _there(declared: Declaration, seen: Observation) -> set[tuple[str, Key]]:
    """What can be used, and stays."""
    templates = {(t.record.tenant, t.record.name) for t in seen.templates}
    usable = {key for key in templates if newest(generations(*key, seen.templates))} - {
        *declared.absent_templates
    }
    pools = {(p.tenant, p.name) for p in seen.pools} - {*declared.absent_pools}
    return {("template", key) for key in usable} | {("pool", key) for key in pools}


def _volumes(ctx: Context, declared: Declaration) -> set[tuple[str, Key]]:
    """The volumes that there are, and the sources of those, which nobody needs any more.

    A hypervisor that has no volumes says so itself.
    """
    if (
        not any(r.kind == "volume" for r in declared.needed)
        or not ctx.provider.capabilities.volumes
    ):
        return {("volume", r.key) for r in declared.needed}
    found = {v.key for v in ctx.provider.volumes.observe(ctx.owner).volumes}
    made = {
        (v.spec.tenant, v.spec.source)
        for v in declared.volumes
        if (v.spec.tenant, v.spec.name) in found
    }
    return {("volume", key) for key in (found - {*declared.absent_volumes}) | made}
