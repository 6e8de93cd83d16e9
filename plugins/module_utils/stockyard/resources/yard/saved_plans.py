# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved plans: written, read, and compared with the current state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ...clock import Deadline
from ...errors import InvalidInput
from ...files import write_atomic
from ...model import codec
from ...model.observation import Observation
from ...model.pool import PoolRecord
from ...model.volume import VolumeRecord
from ...planning import saved_plan
from ...planning.declaration import Declaration
from ...planning.plan import Plan
from ...planning.saved_plan import SavedPlan
from ..context import Context
from .converge_yard import YardConvergence


@dataclass(frozen=True)
class SavedConvergence:
    """The convergence of a yard to its declaration, with saved plans.

    :param save_plan: the file to write the plan to.
    :param apply_plan: a saved plan: nothing changes unless it still matches the yard.
    """

    ctx: Context
    declaration: Declaration
    save_plan: Path | None = None
    apply_plan: Path | None = None

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now, and save them if requested: after
        all checks.

        :raises ImageError: if a build would fail for a package that does not exist.
        """
        saved = load(self.apply_plan) if self.apply_plan else None
        observation = self.ctx.provider.observe(self.ctx.owner)
        confirmed = bool(saved or self.save_plan)
        convergence = YardConvergence(self.ctx, self.declaration, confirmed)
        current = build(convergence, observation)
        if saved:
            saved.check(current)
        todo = Plan(current.actions)
        convergence.check_packages(todo, observation)
        if self.save_plan:
            save(current, self.save_plan)
        return todo

    def apply(self, deadline: Deadline) -> Plan:
        """Converge the yard; return the actions that were taken."""
        saved = load(self.apply_plan) if self.apply_plan else None
        convergence = YardConvergence(self.ctx, self.declaration, bool(saved))
        if saved or self.save_plan:
            current = build(convergence, self.ctx.provider.observe(self.ctx.owner))
            if saved:
                saved.check(current)
            if self.save_plan:
                save(current, self.save_plan)
        return convergence.apply(deadline)


def build(convergence: YardConvergence, observation: Observation) -> SavedPlan:
    """Return the current plan with the versions of all objects that it changes."""
    ctx, declaration = convergence.ctx, convergence.declaration
    todo = convergence.plan_from(observation)
    names = {(action.kind, action.name) for action in todo.actions if action.before}
    host_records = [
        host.record
        for host in observation.hosts
        if ("host", host.name) in names
        or (host.record.endpoint and ("endpoint", host.record.endpoint.name) in names)
    ]
    # New hosts are forked from the current generation, so the plan depends on its version.
    template_keys = [
        *((fleet.spec.tenant, fleet.spec.template) for fleet in declaration.fleets),
        *((endpoint.spec.tenant, endpoint.spec.template) for endpoint in declaration.endpoints),
    ]
    current_generations = [observation.template(*key) for key in template_keys]
    template_records = (
        [template.record for template in current_generations if template]
        if any(action.kind == "host" and action.after for action in todo.actions)
        else []
    )
    template_records += [
        template.record
        for template in observation.templates
        if any(
            kind == "template" and title.split(" ")[0] == template.record.name
            for kind, title in names
        )
    ]
    versions = {
        f"host {item.tenant}/{item.name}": f"{item.uuid}@{item.version}" for item in host_records
    }
    stored_records: tuple[PoolRecord | VolumeRecord, ...] = (
        *observation.volumes.volumes,
        *observation.pools,
    )
    versions |= {
        f"{item.kind} {item.tenant}/{item.name}": f"{item.uuid}@{item.version}"
        for item in stored_records
        if (item.kind, item.name) in names
    }
    versions |= {
        f"template {item.tenant}/{item.name}/{item.generation[:12]}": f"{item.uuid}@{item.version}"
        for item in template_records
    }
    return saved_plan.seal(
        ctx.owner, ctx.provider.uri, ctx.today().isoformat(timespec="seconds"), todo, versions
    )


def save(saved: SavedPlan, path: Path) -> None:
    """Write a plan as JSON, and next to it as Markdown, each completely or not at all.

    :raises InvalidInput: if the files cannot be written.
    """
    texts = {
        path: json.dumps(codec.to_dict(saved), indent=2) + "\n",
        path.with_suffix(".md"): saved.markdown(),
    }
    if len(texts) < 2:
        raise InvalidInput(
            "the name of a saved plan must end with .json.",
            name=str(path),
            remedy="choose such a name; the same plan in Markdown is saved next to it",
        )
    try:
        for target, text in texts.items():
            write_atomic(target, text, 0o644)
    except OSError as error:
        raise InvalidInput(
            "the plan cannot be saved.",
            name=str(path),
            cause=str(error),
            remedy="name a file that can be written",
        ) from error


def load(path: Path) -> SavedPlan:
    """Read a saved plan.

    :raises InvalidInput: if it does not exist, or is not as it was saved.
    """
    try:
        return saved_plan.read(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            "the saved plan cannot be read.",
            name=str(path),
            cause=str(error),
            remedy="save a new plan in check mode",
        ) from error
