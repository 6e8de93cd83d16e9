# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of a yard, for users of the SDK."""

from __future__ import annotations

from ..model.pool import PoolSpec
from ..model.pool_info import PoolInfo
from ..resources.context import Context
from ..resources.operation import run
from ..resources.pools import pool_lifecycle
from ..resources.pools.pool_lifecycle import PoolConvergence, PoolDeletion
from ..result import Result
from . import lookup

TIMEOUT = 60.0


class PoolsClient:
    """The pools of a yard: ``yard.pools``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def apply(
        self, spec: PoolSpec, *, force: bool = False, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[PoolInfo]:
        """Create or change a pool as declared; its limits can change while its hosts run.

        :param force: allow limits below the present use: the hosts stay, and no new host is created
            in the pool.
        :raises OperationRefused: if a limit would be below the present use, and ``force`` is not
            set.
        """
        plan = run(PoolConvergence(self._context, spec, force), check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, spec.name))

    def list(self, tenant: str | None = None, name: str | None = None) -> tuple[PoolInfo, ...]:
        """Return pools, by tenant and name, with their use and the memory that their hosts hold."""
        observation = self._context.provider.observe(self._context.owner)
        chosen = [
            pool
            for pool in observation.pools
            if tenant in (None, pool.tenant) and name in (None, pool.name)
        ]
        return tuple(
            pool_lifecycle.describe(self._context, observation, pool)
            for pool in sorted(chosen, key=lambda pool: (pool.tenant, pool.name))
        )

    def get(self, name: str, tenant: str = "default") -> PoolInfo:
        """Return a pool.

        :raises NotFound: if the pool does not exist.
        """
        return lookup.last("pool", name, self.list(tenant, name))

    def delete(
        self, name: str, tenant: str = "default", *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[PoolInfo]:
        """Delete a pool.

        :raises OperationRefused: if the pool is not empty.
        """
        plan = run(PoolDeletion(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self.list(tenant, name))
