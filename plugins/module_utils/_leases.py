# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of leases, and their conversion."""

from __future__ import annotations

from typing import Any

from .stockyard.declarations.options import options, specification
from .stockyard.model.lease import LeaseSpec, seconds
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]

LEASE: Params = options(
    LeaseSpec,
    holder={"required": None},
    fleet={"default": None},
    pool={"default": None},
    duration={"type": "str", "default": "1h"},
)


def lease_spec(params: Params) -> LeaseSpec:
    """Return the lease that a task declares."""
    return specification(LeaseSpec, params, duration=seconds("duration", params["duration"]))


def change_lease(yard: Yard, params: Params, mode: Params) -> Result[Any]:
    """Lease, renew or release a host as a task declares, by the number or by the holder of the
    lease.
    """
    back = {"replace": params["replace"], **mode}
    if params["state"] == "released":
        return (
            yard.leases.release(params["id"], **back)
            if params["id"]
            else yard.leases.release_held(lease_spec(params), **back)
        )
    if params["id"]:
        return yard.leases.renew(params["id"], params["duration"], check=mode["check"])
    wait = mode["timeout"] if params["wait"] else 0.0
    return yard.leases.ensure(
        lease_spec(params), renew=params["renew"], check=mode["check"], wait=wait
    )
