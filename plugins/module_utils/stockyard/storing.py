# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes, for users of the SDK: the part of a yard that manages data disks."""

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
    """The part of a yard that manages volumes."""

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
        """Create, delete, attach or detach one volume by name: ``present``, ``absent``,
        ``attached`` to a running host, or ``detached`` from its host.

        :param host: the host to attach it to.
        :param path: the mount point in the host.
        :raises InvalidInput: if a host is named in another state than ``attached``, because it
            would be ignored.
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
            attachment = (ctx, spec, host, path)
            plan = (
                volume_lifecycle.plan_attachment(*attachment)
                if check
                else volume_lifecycle.attach(*attachment, timeout)
            )
        else:
            plan = (
                volume_lifecycle.plan_detachment(ctx, *key)
                if check
                else volume_lifecycle.detach(ctx, *key, timeout)
            )
        return Result(plan, self.volumes(*key))

    def volumes(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Return volumes as modules return them, by tenant and name."""
        volumes = self.context.provider.volumes.observe(self.context.owner).volumes
        chosen = [
            volume
            for volume in volumes
            if tenant in (None, volume.tenant) and name in (None, volume.name)
        ]
        return [volume_lifecycle.describe(self.context, volume) for volume in chosen]
