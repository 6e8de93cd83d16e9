# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of volumes in modules and declarations, and their specifications."""

from __future__ import annotations

from typing import Any

from ._named import named
from ._options import options, specification
from .stockyard.errors import InvalidInput
from .stockyard.model.naming import shown
from .stockyard.model.volume import VolumeSpec
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]

VOLUME_STATES = ("present", "absent", "attached", "detached")

VOLUME: Params = {**options(VolumeSpec, "name"), "timeout": {"type": "int", "default": 120}}


@named("volume")
def volume_spec(params: Params) -> VolumeSpec:
    """Return the volume that a task declares."""
    return specification(VolumeSpec, params)


def change_volume(yard: Yard, params: Params, mode: Params) -> Result[Any]:
    """Create, delete, attach or detach a volume as a task declares.

    :raises InvalidInput: if a host is named in another state than ``attached``, because it would
        be ignored.
    """
    spec, state = volume_spec(params), params["state"]
    if params["host"] and state != "attached":
        raise InvalidInput(
            f"host {shown(params['host'])} means nothing with state {state}.",
            name=f"volume {spec.name}",
            remedy="set state to attached, or leave host out",
        )
    if state == "attached":
        return yard.volumes.attach(spec, host=params["host"], path=params["path"], **mode)
    if state == "detached":
        return yard.volumes.detach(spec.name, spec.tenant, **mode)
    if state == "absent":
        return yard.volumes.delete(spec.name, spec.tenant, **mode)
    return yard.volumes.apply(spec, **mode)
