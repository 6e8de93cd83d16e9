# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes, as users of the SDK have them: the part of a yard that is about data disks."""

from __future__ import annotations

from typing import Any

from .errors import InvalidInput
from .model import naming
from .model.volume import VolumeSpec
from .resources.context import Context
from .resources.volumes import volume_lifecycle
from .result import Result

VOLUME_STATES = ("present", "absent", "attached", "detached")
VOLUME_TIMEOUT = 120.0


class Storing:
    """What a yard does with volumes."""

    context: Context

    def volume(
        self,
        spec: VolumeSpec,
        state: str = "present",
        *,
        host: str = "",
        path: str = "",
        check: bool = False,
        timeout: float = VOLUME_TIMEOUT,
    ) -> Result:
        """One volume by name: ``present``, ``absent``, ``attached`` to a running host, or
        ``detached`` from whichever.

        :param host: the host that it is attached to.
        :param path: where it is mounted there.
        :raises InvalidInput: when a host is named in another state than ``attached``: it would be
            passed over.
        """
        naming.choice("state", state, VOLUME_STATES)
        if host and state != "attached":
            raise InvalidInput(
                f"host {naming.shown(host)} means nothing with state {state}.",
                name=f"volume {spec.name}",
                remedy="set state to attached, or leave host out",
            )
        ctx, key = self.context, (spec.tenant, spec.name)
        if state == "present":
            plan = (
                volume_lifecycle.plan(ctx, spec)
                if check
                else volume_lifecycle.ensure(ctx, spec, timeout)
            )
        elif state == "absent":
            plan = (
                volume_lifecycle.plan_deletion(ctx, *key)
                if check
                else volume_lifecycle.delete(ctx, *key, timeout)
            )
        elif state == "attached":
            place = (ctx, spec, host, path)
            plan = (
                volume_lifecycle.plan_attachment(*place)
                if check
                else volume_lifecycle.attach(*place, timeout)
            )
        else:
            plan = (
                volume_lifecycle.plan_detachment(ctx, *key)
                if check
                else volume_lifecycle.detach(ctx, *key, timeout)
            )
        return Result(plan, self.volumes(*key))

    def volumes(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Volumes as modules return them, by tenant and name."""
        found = self.context.provider.volumes.observe(self.context.owner).volumes
        chosen = [v for v in found if tenant in (None, v.tenant) and name in (None, v.name)]
        return [volume_lifecycle.describe(self.context, v) for v in chosen]
