# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches of hosts, which no client offers yet."""

from __future__ import annotations

from stockyard import HostInfo, Result, Yard
from stockyard.model.branch import BranchSpec
from stockyard.resources.fleets.branch_host import HostBranching
from stockyard.resources.operation import run

TIMEOUT = 900.0


def branch(yard: Yard, spec: BranchSpec, *, check: bool = False) -> Result[HostInfo]:
    """Create hosts from a running host. The result's objects are the children."""
    plan = run(HostBranching(yard.context, spec), check=check, timeout=TIMEOUT)
    children = (host for host in yard.hosts.list(spec.tenant) if host.name in spec.names)
    return Result(plan, tuple(children))
