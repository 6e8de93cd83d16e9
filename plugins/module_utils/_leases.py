# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of leases, and what a task wants of one."""

from __future__ import annotations

from typing import Any

from .stockyard.model.lease import LeaseSpec, seconds
from .stockyard.result import Result
from .stockyard.yard import Yard

Params = dict[str, Any]

LEASE: Params = {
    "tenant": {"type": "str", "default": "default"},
    "holder": {"type": "str"},
    "fleet": {"type": "str"},
    "pool": {"type": "str"},
    "labels": {"type": "dict", "default": {}},
    "duration": {"type": "str", "default": "1h"},
}


def lease_spec(params: Params) -> LeaseSpec:
    """The lease that a task asks for."""
    asked = {name: params[name] for name in ("holder", "tenant", "labels")}
    where = {"fleet": params["fleet"] or "", "pool": params["pool"] or ""}
    return LeaseSpec(**asked, **where, duration=seconds("duration", params["duration"]))


def leasing(yard: Yard, params: Params, how: Params) -> Result:
    """What a task wants of a lease, by its number or by its holder."""
    back = {"replace": params["replace"], **how}
    if params["state"] == "released":
        return (
            yard.release_lease(params["id"], **back)
            if params["id"]
            else yard.release_held(lease_spec(params), **back)
        )
    if params["id"]:
        return yard.renew_lease(params["id"], params["duration"], check=how["check"])
    wait = how["timeout"] if params["wait"] else 0.0
    return yard.have_lease(
        lease_spec(params), extend=params["renew"], check=how["check"], wait=wait
    )
