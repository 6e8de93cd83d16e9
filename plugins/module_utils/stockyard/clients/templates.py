# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates of a yard, for users of the SDK."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidInput
from ..model.artifact import reference
from ..model.artifact_info import ArtifactInfo
from ..model.login import ANONYMOUS, RegistryLogin
from ..model.naming import signer_key
from ..model.template import TemplateSpec
from ..model.template_info import TemplateInfo
from ..paths import expand_user
from ..resources.context import Context
from ..resources.hosts import access
from ..resources.operation import run
from ..resources.templates import build_template, transfer
from ..resources.templates.build_template import TemplateConvergence, TemplateDeletion
from ..resources.templates.transfer import (
    TemplateLoad,
    TemplatePull,
    TemplatePush,
    TemplateSave,
)
from ..result import Result
from . import lookup

BUILD_TIMEOUT = 1800.0
DELETION_TIMEOUT = 600.0
TRANSFER_TIMEOUT = 3600.0


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

    def push(
        self,
        name: str,
        place: str,
        tenant: str = "default",
        *,
        generation: str = "",
        base: str = "",
        login: RegistryLogin = ANONYMOUS,
        check: bool = False,
        timeout: float = TRANSFER_TIMEOUT,
    ) -> Result[ArtifactInfo]:
        """Send a generation of a template to a registry, signed with the key of its tenant. Content
        that exists in the repository is not sent again.

        :param place: the artifact, such as ``registry.example.com/team/docker:tag``. Without a tag,
            the first digits of the generation are the tag.
        :param generation: the first digits of the generation; the current one by default.
        :param base: an artifact of the same registry with similar content, such as that of the
            parent of a derived template.
        """
        operation = TemplatePush(
            self._context,
            tenant,
            name,
            generation,
            place=reference(place),
            base=reference(base) if base else None,
            login=login,
        )
        plan = run(operation, check=check, timeout=timeout)
        observation = self._context.provider.observe(self._context.owner)
        return Result(plan, (operation.describe(observation),))

    def save(
        self,
        name: str,
        path: str | Path,
        tenant: str = "default",
        *,
        generation: str = "",
        check: bool = False,
        timeout: float = TRANSFER_TIMEOUT,
    ) -> Result[ArtifactInfo]:
        """Write a generation of a template to a file, signed with the key of its tenant."""
        operation = TemplateSave(self._context, tenant, name, generation, path=expand_user(path))
        plan = run(operation, check=check, timeout=timeout)
        observation = self._context.provider.observe(self._context.owner)
        return Result(plan, (operation.describe(observation),))

    def pull(
        self,
        place: str,
        tenant: str = "default",
        *,
        name: str = "",
        trusted_keys: tuple[str, ...] = (),
        allow_boot: bool = False,
        login: RegistryLogin = ANONYMOUS,
        check: bool = False,
        timeout: float = TRANSFER_TIMEOUT,
    ) -> Result[TemplateInfo]:
        """Fetch a template from a registry. Hosts are forked from it at once.

        :param name: the name of the template here; by default the name that it was pushed with.
        :param trusted_keys: public keys of signers in addition to that of the tenant.
        :param allow_boot: whether to accept a template whose memory the hypervisor cannot resume:
            hosts boot from its disk.
        :raises ImageError: if the artifact is not signed by a trusted key, or was changed.
        :raises Unsupported: if the hypervisor cannot resume its memory.
        """
        source = reference(place)
        if not source.tag:
            raise InvalidInput(f"{place} has no tag.", remedy="name a tag or a digest")
        operation = TemplatePull(
            self._context,
            tenant,
            name,
            tuple(map(signer_key, trusted_keys)),
            allow_boot,
            place=source,
            login=login,
        )
        return self._imported(operation, check, timeout)

    def load(
        self,
        path: str | Path,
        tenant: str = "default",
        *,
        name: str = "",
        trusted_keys: tuple[str, ...] = (),
        allow_boot: bool = False,
        check: bool = False,
        timeout: float = TRANSFER_TIMEOUT,
    ) -> Result[TemplateInfo]:
        """Read a template from a file that :meth:`save` wrote, as :meth:`pull` does."""
        keys = tuple(map(signer_key, trusted_keys))
        operation = TemplateLoad(
            self._context, tenant, name, keys, allow_boot, path=expand_user(path)
        )
        return self._imported(operation, check, timeout)

    def _imported(
        self, operation: TemplatePull | TemplateLoad, check: bool, timeout: float
    ) -> Result[TemplateInfo]:
        named = transfer.with_name(operation)
        plan = run(named, check=check, timeout=timeout)
        return Result(plan, self.list(named.tenant, named.name)[-1:])

    def prune(self, *, check: bool = False) -> tuple[str, ...]:
        """Delete old generations without hosts, and images without templates; return their
        names.

        :param check: whether nothing is deleted.
        """
        return tuple(build_template.prune(self._context, check=check))
