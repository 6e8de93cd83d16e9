# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of a yard, for users of the SDK."""

from __future__ import annotations

from ..model.endpoint import EndpointSpec
from ..model.endpoint_info import EndpointInfo
from ..resources.context import Context
from ..resources.endpoints import endpoint_lifecycle
from ..resources.endpoints.endpoint_lifecycle import EndpointConvergence, EndpointDeletion
from ..resources.operation import run
from ..result import Result
from . import lookup

TIMEOUT = 600.0


class EndpointsClient:
    """The endpoints of a yard: ``yard.endpoints``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def apply(
        self,
        spec: EndpointSpec,
        *,
        replace: bool = False,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[EndpointInfo]:
        """Create or change an endpoint as declared, with its image host if a template is declared.
        ``stockyard endpoint serve`` serves it.

        :param replace: whether the image host is replaced, and its images are lost, if it was
            forked from another generation, or if its declaration changed.
        :raises NotFound: if the image host does not exist, and no template is declared.
        :raises OperationRefused: if only a replacement could change the image host as declared,
            and ``replace`` is not set.
        """
        convergence = EndpointConvergence(self._context, spec, replace)
        plan = run(convergence, check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, spec.name))

    def list(self, tenant: str | None = None, name: str | None = None) -> tuple[EndpointInfo, ...]:
        """Return endpoints, by tenant and name, with their machines."""
        observation = self._context.provider.observe(self._context.owner)
        endpoints = [
            endpoint_lifecycle.describe(self._context, observation, host)
            for host in endpoint_lifecycle.recorded(observation)
        ]
        chosen = [
            endpoint
            for endpoint in endpoints
            if tenant in (None, endpoint.tenant) and name in (None, endpoint.name)
        ]
        return tuple(sorted(chosen, key=lambda endpoint: (endpoint.tenant, endpoint.name)))

    def get(self, name: str, tenant: str = "default") -> EndpointInfo:
        """Return an endpoint.

        :raises NotFound: if the endpoint is not on record.
        """
        return lookup.last("endpoint", name, self.list(tenant, name))

    def delete(
        self, name: str, tenant: str = "default", *, check: bool = False, timeout: float = TIMEOUT
    ) -> Result[EndpointInfo]:
        """Delete an endpoint with the machines of its containers, and with its image host if that
        was created for it. End its service first.
        """
        plan = run(EndpointDeletion(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self.list(tenant, name))
