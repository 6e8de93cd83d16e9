# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image host of an endpoint: a host that is not replaced together with its template, because
it holds the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import OperationRefused
from ...model.endpoint import EndpointSpec
from ...model.fleet import SingleSpec
from ...model.host import Host
from ...model.observation import Observation
from ...planning.plan import Plan
from ..context import Context
from ..fleets.single_host import SingleHostConvergence


@dataclass(frozen=True)
class ImageHostConvergence(SingleHostConvergence):
    """The convergence of an image host to its declaration.

    :param replace: whether the host is replaced, and its images are lost, if it was forked from
        another generation, or if its declaration changed.
    """

    replace: bool = False

    def desired(self, observation: Observation, generation: str) -> Plan:
        """Return the plan before a new host is admitted.

        :raises OperationRefused: if only a replacement could change the host as declared.
        """
        host = self._host(observation)
        if host is None or host.record.phase != "ready":
            return super().desired(observation, generation)
        # Other labels are none of the endpoint's business.
        labelled = replace(self, spec=replace(self.spec, labels=host.record.labels))
        if self.replace:
            return super(ImageHostConvergence, labelled).desired(observation, generation)
        todo = super(ImageHostConvergence, labelled).desired(observation, host.record.generation)
        self._check_replacement(todo, host)
        return todo

    def _check_replacement(self, todo: Plan, host: Host) -> None:
        reasons = [action.reason for action in todo.actions if action.verb == "replace"]
        if host.record.template != self.spec.template:
            reasons.append(f"its template is {host.record.template}")
        if reasons:
            raise OperationRefused(
                "the image host can only be replaced to be as declared, and its images would be "
                "lost.",
                name=host.record.title,
                cause="; ".join(reasons),
                remedy="set replace, or undo the change of the declaration",
            )


def image_host(ctx: Context, spec: EndpointSpec, *, replace: bool) -> ImageHostConvergence:
    """Return the convergence of the image host of a declared endpoint."""
    single = SingleSpec(spec.image_host, spec.template, spec.tenant, spec.host)
    return ImageHostConvergence(ctx, single, "present", replace=replace)
