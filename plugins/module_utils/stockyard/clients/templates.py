# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of a yard, for users of the SDK."""

from __future__ import annotations

from ..model.template import TemplateSpec
from ..model.template_info import TemplateInfo
from ..resources.context import Context
from ..resources.hosts import access
from ..resources.operation import run
from ..resources.templates import build_template
from ..resources.templates.build_template import TemplateConvergence, TemplateDeletion
from ..result import Result
from . import lookup

BUILD_TIMEOUT = 1800.0
DELETION_TIMEOUT = 600.0


class TemplatesClient:
    """The templates of a yard: ``yard.templates``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def apply(
        self, spec: TemplateSpec, *, check: bool = False, timeout: float = BUILD_TIMEOUT
    ) -> Result[TemplateInfo]:
        """Build a frozen template as declared. The result's object is the current generation."""
        plan = run(TemplateConvergence(self._context, spec), check=check, timeout=timeout)
        return Result(plan, self.list(spec.tenant, spec.name)[-1:])

    def list(self, tenant: str | None = None, name: str | None = None) -> tuple[TemplateInfo, ...]:
        """Return all generations of templates; the current generation of a template comes last."""
        templates = [
            template
            for template in self._context.provider.observe(self._context.owner).templates
            if tenant in (None, template.record.tenant) and name in (None, template.record.name)
        ]
        return tuple(
            access.describe_template(self._context, template)
            for template in sorted(templates, key=lambda template: template.record.since)
        )

    def get(self, name: str, tenant: str = "default") -> TemplateInfo:
        """Return the current generation of a template.

        :raises NotFound: if the template does not exist.
        """
        return lookup.last("template", name, self.list(tenant, name))

    def delete(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = DELETION_TIMEOUT,
    ) -> Result[TemplateInfo]:
        """Delete all generations of a template. The result's objects are the remaining ones."""
        plan = run(TemplateDeletion(self._context, tenant, name), check=check, timeout=timeout)
        return Result(plan, self.list(tenant, name))

    def prune(self, *, check: bool = False) -> tuple[str, ...]:
        """Delete old generations without hosts, and images without templates; return their
        names.

        :param check: whether nothing is deleted.
        """
        return tuple(build_template.prune(self._context, check=check))
