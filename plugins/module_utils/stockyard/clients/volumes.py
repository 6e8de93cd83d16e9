# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of a yard, for users of the SDK."""

from __future__ import annotations

from ..model.volume import VolumeSpec
from ..model.volume_info import VolumeInfo
from ..resources.context import Context
from ..resources.operation import run
from ..resources.volumes import volume_lifecycle
from ..resources.volumes.volume_lifecycle import (
    VolumeAttachment,
    VolumeConvergence,
    VolumeDeletion,
    VolumeDetachment,
)
from ..result import Result
from . import lookup

TIMEOUT = 120.0


class VolumesClient:
    """The volumes of a yard: ``yard.volumes``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def apply(
        self, spec: VolumeSpec, *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[VolumeInfo]:
        """Create a volume as declared, or enlarge it."""
        plan = run(VolumeConvergence(self._context, spec), check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, spec.name))

    def attach(
        self,
        volume: str | VolumeSpec,
        tenant: str = "default",
        *,
        host: str,
        path: str,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[VolumeInfo]:
        """Attach a volume to a running host.

        :param volume: its name, or a declaration from which to create it if it does not exist.
        :param host: the name of the host, of the same tenant.
        :param path: the mount point in the host.
        """
        spec = VolumeSpec(volume, tenant=tenant) if isinstance(volume, str) else volume
        attachment = VolumeAttachment(self._context, spec, host, path)
        plan = run(attachment, check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, spec.name))

    def detach(
        self, name: str, tenant: str = "default", *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[VolumeInfo]:
        """Detach a volume from its host."""
        plan = run(VolumeDetachment(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self.list(tenant, name))

    def list(self, tenant: str | None = None, name: str | None = None) -> tuple[VolumeInfo, ...]:
        """Return volumes, by tenant and name."""
        volumes = self._context.provider.volumes.observe(self._context.owner).volumes
        return tuple(
            volume_lifecycle.describe(self._context, volume)
            for volume in volumes
            if tenant in (None, volume.tenant) and name in (None, volume.name)
        )

    def get(self, name: str, tenant: str = "default") -> VolumeInfo:
        """Return a volume.

        :raises NotFound: if the volume does not exist.
        """
        return lookup.last("volume", name, self.list(tenant, name))

    def delete(
        self, name: str, tenant: str = "default", *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[VolumeInfo]:
        """Delete a volume and its data.

        :raises OperationRefused: if the volume is attached to a host.
        """
        plan = run(VolumeDeletion(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self.list(tenant, name))
