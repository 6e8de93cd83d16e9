# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State of a volume as a task declares it."""

from __future__ import annotations

from typing import Any

from .stockyard.declarations.volumes import volume_spec
from .stockyard.errors import InvalidInput
from .stockyard.model.naming import shown
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]


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
