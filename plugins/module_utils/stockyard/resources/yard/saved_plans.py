# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans that are kept: written, read, and held against the state of now."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ...errors import InvalidInput
from ...model import codec
from ...model.pool import PoolRecord
from ...model.volume import VolumeRecord
from ...planning import saved_plan
from ...planning.declaration import Declaration
from ...planning.saved_plan import SavedPlan
from ...planning.templates import generations, newest
from ..context import Context
from . import converge_yard


def sealed(ctx: Context, declared: Declaration, *, confirmed: bool) -> SavedPlan:
    """The plan of now with the state of everything that it touches.

    :param confirmed: see :func:`.site.plan`.
    """
    seen = ctx.provider.observe(ctx.owner)
    todo = converge_yard.plan(ctx, declared, seen, confirmed=confirmed)
    names = {(a.kind, a.name) for a in todo.actions if a.before}
    touched = [h.record for h in seen.hosts if ("host", h.record.name) in names]
    # New hosts are made of whatever rules: that is touched by all of them.
    rulers = [
        newest(generations(f.spec.tenant, f.spec.template, seen.templates)) for f in declared.fleets
    ]
    ours = (
        [t.record for t in rulers if t]
        if any(a.kind == "host" and a.after for a in todo.actions)
        else []
    )
    ours += [
        t.record
        for t in seen.templates
        if any(k == "template" and n.split(" ")[0] == t.record.name for k, n in names)
    ]
    touches = {f"host {r.tenant}/{r.name}": f"{r.uuid}@{r.version}" for r in touched}
    kept: tuple[PoolRecord | VolumeRecord, ...] = (
        *ctx.provider.volumes.observe(ctx.owner).volumes,
        *seen.pools,
    )
    touches |= {
        f"{r.kind} {r.tenant}/{r.name}": f"{r.uuid}@{r.version}"
        for r in kept
        if (r.kind, r.name) in names
    }
    touches |= {
        f"template {r.tenant}/{r.name}/{r.generation[:12]}": f"{r.uuid}@{r.version}" for r in ours
    }
    return saved_plan.seal(
        ctx.owner, ctx.provider.uri, ctx.today().isoformat(timespec="seconds"), todo, touches
    )


def save(found: SavedPlan, path: Path) -> None:
    """Write a plan as JSON, and beside it as Markdown, each whole or not at all.

    :raises InvalidInput: when the files cannot be written.
    """
    texts = {
        path: json.dumps(codec.to_dict(found), indent=2) + "\n",
        path.with_suffix(".md"): found.markdown(),
    }
    if len(texts) < 2:
        raise InvalidInput(
            "a plan is saved as JSON, with Markdown beside it.",
            name=str(path),
            remedy="end it in .json",
        )
    try:
        for target, text in texts.items():
            with tempfile.NamedTemporaryFile(
                "w", dir=target.parent, delete=False, encoding="utf-8"
            ) as handle:
                handle.write(text)
            os.chmod(handle.name, 0o644)
            os.replace(handle.name, target)
    except OSError as error:
        raise InvalidInput(
            "the plan cannot be saved.",
            name=str(path),
            cause=str(error),
            remedy="name a file that can be written",
        ) from error


def load(path: Path) -> SavedPlan:
    """Read a plan that was saved.

    :raises InvalidInput: when it is not there, or not as it was saved.
    """
    try:
        return saved_plan.read(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            "the saved plan cannot be read.",
            name=str(path),
            cause=str(error),
            remedy="save it anew in check mode",
        ) from error
