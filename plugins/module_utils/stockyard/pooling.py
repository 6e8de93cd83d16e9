# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of a yard, as users of the SDK have them."""

from __future__ import annotations

from typing import Any

from .model.pool import PoolSpec
from .resources.context import Context
from .resources.pools import pool_lifecycle
from .result import Result

POOL_TIMEOUT = 60.0


class Pooling:
    """The part of a yard that is about pools."""

    context: Context

    def pool(
        self,
        spec: PoolSpec,
        *,
        force: bool = False,
        check: bool = False,
        timeout: float = POOL_TIMEOUT,
    ) -> Result:
        """Have a pool as declared; it grows and shrinks while its hosts run.

        :param force: let it be smaller than what is in it: that stays, and nothing new is let in.
        :raises Refused: when it would be smaller, and that is not forced.
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
        """Take a pool away.

        :raises Refused: when something is in it.
        """
        plan = (
            pool_lifecycle.plan_removal(self.context, tenant, name)
            if check
            else pool_lifecycle.remove(self.context, tenant, name, timeout)
        )
        return Result(plan, self.pools(tenant, name))

    def pools(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Pools as modules return them, by tenant and name, with what is used and what is held."""
        seen = self.context.provider.observe(self.context.owner)
        chosen = [p for p in seen.pools if tenant in (None, p.tenant) and name in (None, p.name)]
        return [
            pool_lifecycle.describe(self.context, seen, p)
            for p in sorted(chosen, key=lambda p: (p.tenant, p.name))
        ]
