# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of a yard, for users of the SDK."""

from __future__ import annotations

from typing import Any

from .model.pool import PoolSpec
from .resources.context import Context
from .resources.pools import pool_lifecycle
from .result import Result

POOL_TIMEOUT = 60.0


class Pooling:
    """The part of a yard that manages pools."""

    context: Context

    def pool(
        self,
        spec: PoolSpec,
        *,
        force: bool = False,
        check: bool = False,
        timeout: float = POOL_TIMEOUT,
    ) -> Result:
        """Create or change a pool as declared; its limits can change while its hosts run.

        :param force: allow limits below the present use: the hosts stay, and no new host is created
            in the pool.
        :raises OperationRefused: if a limit would be below the present use, and ``force`` is not
            set.
        """
        plan = (
            pool_lifecycle.plan(self.context, spec, force=force)
            if check
            else pool_lifecycle.ensure(self.context, spec, timeout, force=force)
        )
        return Result(plan, self.pools(spec.tenant, spec.name))

    def remove_pool(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = POOL_TIMEOUT,
    ) -> Result:
        """Delete a pool.

        :raises OperationRefused: if the pool is not empty.
        """
        plan = (
            pool_lifecycle.plan_removal(self.context, tenant, name)
            if check
            else pool_lifecycle.remove(self.context, tenant, name, timeout)
        )
        return Result(plan, self.pools(tenant, name))

    def pools(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Return pools as modules return them, by tenant and name, with their use and the memory
        that their hosts hold.
        """
        observation = self.context.provider.observe(self.context.owner)
        chosen = [
            pool
            for pool in observation.pools
            if tenant in (None, pool.tenant) and name in (None, pool.name)
        ]
        return [
            pool_lifecycle.describe(self.context, observation, pool)
            for pool in sorted(chosen, key=lambda pool: (pool.tenant, pool.name))
        ]
