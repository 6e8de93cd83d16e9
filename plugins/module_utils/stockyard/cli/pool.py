# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard pool``: lists, creates and deletes pools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.pool import PoolSpec
from . import say
from .command import (
    DRY_RUN,
    JSON,
    TENANT,
    Argument,
    Command,
    Group,
    Option,
    Options,
    timeout,
)
from .durations import change_mode

if TYPE_CHECKING:
    from ..model.pool_info import PoolInfo
    from ..yard import Yard

NAME = Argument("name", "NAME", "the pool", complete="pool")
CHANGE = (TENANT, timeout("1m"), DRY_RUN, JSON)
LIMITS = ("hosts", "vcpus", "memory_mib", "disk_gib")
HEADINGS = ("NAME", "HOSTS", "VCPUS", "MEMORY MIB", "DISK GIB", "PARENT", "TENANT")


def _list(yard: Yard, options: Options) -> int:
    return say.listing(options, yard.pools.list(options.tenant or None), HEADINGS, _row)


def _row(pool: PoolInfo) -> tuple[str, ...]:
    uses = (_used(getattr(pool.used, limit), getattr(pool, limit)) for limit in LIMITS)
    return (pool.name, *uses, pool.parent, pool.tenant)


def _create(yard: Yard, options: Options) -> int:
    limits = {limit: getattr(options, limit) for limit in LIMITS}
    spec = PoolSpec(options.name, options.tenant, options.parent, **limits)
    result = yard.pools.apply(spec, force=options.force, **change_mode(options))
    return say.changes(options, [result], "pools")


def _delete(yard: Yard, options: Options) -> int:
    result = yard.pools.delete(options.name, options.tenant, **change_mode(options))
    return say.changes(options, [result], "pools")


def _used(used: int, limit: int) -> str:
    return f"{used}/{limit}" if limit else str(used)


POOL = Group(
    "pool",
    "manage pools, which limit many hosts together",
    (
        Command(
            "ls",
            "list pools with the used part of each limit",
            _list,
            (Option("--tenant", "only this tenant"), JSON),
        ),
        Command(
            "create",
            "create a pool, or change its limits; the limit 0 is none",
            _create,
            (
                Argument("name", "NAME", "the pool"),
                Option("--hosts", "the largest number of hosts", 0, kind=int),
                Option("--vcpus", "the largest number of virtual CPUs", 0, kind=int),
                Option("--memory-mib", "the memory of all hosts", 0, kind=int),
                Option("--disk-gib", "the largest size of all disks", 0, kind=int),
                Option("--parent", "the pool that contains it"),
                Option("--force", "allow limits below the present use", flag=True),
                *CHANGE,
            ),
        ),
        Command("delete", "delete an empty pool", _delete, (NAME, *CHANGE)),
    ),
)
