# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfers of templates: push, pull, save and load."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from ...artifacts.archive import ArchiveReader, ArchiveWriter
from ...artifacts.registry import RegistryArtifact, require_tag
from ...artifacts.store import ArtifactReader
from ...clock import Deadline
from ...errors import ImageError, InvalidInput, NotFound, OperationRefused
from ...model.artifact import Reference
from ...model.artifact_info import ArtifactInfo
from ...model.login import ANONYMOUS, RegistryLogin
from ...model.observation import Observation, Template
from ...model.template import TemplateRecord
from ...pki import signatures
from ...planning.plan import Action, Plan
from ..context import Context
from ..operation import LockedOperation
from . import artifacts
from .artifacts import KnownPacks, SignedArtifact, Transfer

# Seconds for the questions of a plan.
PATIENCE = 120.0
# Generations whose artifacts are looked for, because they can contain equal pages.
MOST_BASES = 5
# Stands for the name of a template that is not known before its artifact is read.
UNNAMED = "unnamed"


Import = TypeVar("Import", bound="_Import")


@dataclass(frozen=True)
class _Export(LockedOperation):
    """The transfer of a generation to an artifact.

    :param generation: the first digits of the generation; empty for the current one.
    :param transfers: receives the completed transfer.
    """

    tenant: str
    name: str
    generation: str = ""
    transfers: list[Transfer] = field(default_factory=list, compare=False)
    VERB: ClassVar[str] = ""

    @property
    def lock(self) -> str:
        """Return the lock of the template."""
        return self.ctx.lock_name("template", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation."""
        record = self._record(observation)
        artifacts.check_export(self.ctx, record)
        existing = self._existing(record, self.ctx.deadline(PATIENCE))
        if existing and existing.artifact.record.generation == record.generation:
            self.transfers[:] = [Transfer(existing.digest, existing.key, existing.total_bytes, 0)]
            return Plan()
        reason = f"{self._place(record)} does not exist"
        before = {}
        if existing:
            reason = f"{self._place(record)} has another generation"
            before = {"generation": existing.artifact.record.generation[:12]}
        after = {"generation": record.generation[:12]}
        return Plan((Action(self.VERB, "template", record.name, reason, before, after),))

    def describe(self, observation: Observation) -> ArtifactInfo:
        """Return the artifact as it is, or will be."""
        record = self._record(observation)
        transfer = self.transfers[0] if self.transfers else Transfer("", "", 0, 0)
        return ArtifactInfo(
            location=self._place(record),
            digest=transfer.digest,
            key=transfer.key,
            generation=record.generation[:12],
            total_bytes=transfer.total_bytes,
            sent_bytes=transfer.sent_bytes,
        )

    @abstractmethod
    def _place(self, record: TemplateRecord) -> str:
        """Return the place of the artifact, for messages."""

    @abstractmethod
    def _existing(self, record: TemplateRecord, deadline: Deadline) -> SignedArtifact | None:
        """Return the artifact at the place, if the tenant signed it."""

    def _record(self, observation: Observation) -> TemplateRecord:
        return _generation(observation, self.tenant, self.name, self.generation).record

    def _keys(self) -> tuple[str, ...]:
        return _own_keys(self.ctx, self.tenant)


@dataclass(frozen=True)
class TemplatePush(_Export):
    """The transfer of a generation to a registry.

    :param place: the artifact; without a tag, the generation is the tag.
    :param base: an artifact of the same registry whose content is not sent again; ``None`` for
        other generations in the same repository.
    """

    place: Reference = field(kw_only=True)
    base: Reference | None = field(default=None, kw_only=True)
    login: RegistryLogin = field(default=ANONYMOUS, kw_only=True)
    VERB: ClassVar[str] = "push"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base and self.base.registry != self.place.registry:
            raise InvalidInput(
                f"the base {self.base} is in another registry than {self.place}.",
                remedy="name a base in the same registry, or no base",
            )

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Send the artifact."""
        if not todo:
            return todo
        record = self._record(observation)
        authority = self.ctx.pki(self.tenant).authority(self.ctx.today())
        target = self._artifact(record, deadline)
        known = self._known(target, record, observation)
        self.transfers[:] = [artifacts.send(self.ctx, record, authority, target, known, deadline)]
        return todo

    def _place(self, record: TemplateRecord) -> str:
        return str(require_tag(self.place, record.generation))

    def _artifact(self, record: TemplateRecord, deadline: Deadline) -> RegistryArtifact:
        place = require_tag(self.place, record.generation)
        return RegistryArtifact(place, self.login, deadline)

    def _existing(self, record: TemplateRecord, deadline: Deadline) -> SignedArtifact | None:
        # Another artifact under this tag is replaced, as tags are.
        with suppress(ImageError):
            artifact = self._artifact(record, deadline)
            return artifacts.read_signed(artifact, str(artifact.place), self._keys())
        return None

    def _known(
        self, target: RegistryArtifact, record: TemplateRecord, observation: Observation
    ) -> KnownPacks:
        """Return packs that exist in the registry, of the first base that does."""
        for base in self._bases(target, record, observation):
            with suppress(ImageError):
                signed = artifacts.read_signed(base, str(base.place), self._keys())
                if signed:
                    adopt = partial(target.adopt, repository=base.place.repository)
                    known = artifacts.known_packs(signed, base, adopt)
                    self.ctx.progress(
                        f"{record.title}: {base.place} has {len(known)} packs, which are not sent "
                        "again"
                    )
                    return known
        return ()

    def _bases(
        self, target: RegistryArtifact, record: TemplateRecord, observation: Observation
    ) -> Iterator[RegistryArtifact]:
        if self.base:
            base = self.base if self.base.tag else replace(self.base, tag="latest")
            yield RegistryArtifact(base, self.login, target.deadline)
            return
        generations = [record.derivation.generation] if record.derivation else []
        generations += [
            template.record.generation
            for template in reversed(observation.generations(self.tenant, self.name))
        ]
        # An interrupted push of another generation to this tag.
        yield target
        for generation in list(dict.fromkeys(generations))[:MOST_BASES]:
            yield target.tagged(generation[:12])


@dataclass(frozen=True)
class TemplateSave(_Export):
    """The transfer of a generation to a file.

    :param path: the path of the file.
    """

    path: Path = field(kw_only=True)
    VERB: ClassVar[str] = "save"

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Write the file."""
        if not todo:
            return todo
        record = self._record(observation)
        authority = self.ctx.pki(self.tenant).authority(self.ctx.today())
        with closing(ArchiveWriter(self.path)) as writer:
            self.transfers[:] = [artifacts.send(self.ctx, record, authority, writer, (), deadline)]
        return todo

    def _place(self, record: TemplateRecord) -> str:
        return str(self.path)

    def _existing(self, record: TemplateRecord, deadline: Deadline) -> SignedArtifact | None:
        """Return the artifact in the file.

        :raises OperationRefused: if the file contains anything else, which is not overwritten.
        """
        if not self.path.exists():
            return None
        try:
            with closing(ArchiveReader(self.path)) as reader:
                return artifacts.read_signed(reader, str(self.path), self._keys())
        except ImageError as error:
            raise OperationRefused(
                "the file exists, and is no template that this tenant saved.",
                name=str(self.path),
                cause=str(error),
                remedy="name another file, or delete this one",
            ) from error


@dataclass(frozen=True)
class _Import(LockedOperation):
    """The transfer of an artifact to the hypervisor: its generation becomes the current one.

    :param name: the name of the template here.
    :param trusted_keys: the public keys of other tenants' signers that are trusted.
    :param allow_boot: whether to accept a template whose memory cannot be resumed here.
    """

    tenant: str
    name: str
    trusted_keys: tuple[str, ...] = ()
    allow_boot: bool = False
    VERB: ClassVar[str] = ""

    @property
    def lock(self) -> str:
        """Return the lock of the template."""
        return self.ctx.lock_name("template", self.tenant, self.name or UNNAMED)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation.

        :raises StockyardError: if the artifact cannot be used here, with the reason.
        """
        with self._opened(self.ctx.deadline(PATIENCE)) as reader:
            return self._plan(self._signed(reader), observation)

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Store the template, or make its generation current."""
        if not todo:
            return todo
        own_generations = observation.generations(self.tenant, self.name)
        current_time = self.ctx.clock.now()
        promoted = max([current_time, *(item.record.since + 0.001 for item in own_generations)])
        with self._opened(deadline) as reader:
            signed = self._signed(reader)
            # A tag can name another artifact by now, of a generation that exists.
            todo = self._plan(signed, observation)
            if not todo:
                return todo
            existing = self._existing(signed, observation)
            if existing and todo.actions[0].verb == "promote":
                self.ctx.provider.claim(existing.record, promoted=promoted)
                return todo
            record = self._candidate(signed)
            if existing:
                self.ctx.provider.destroy(existing.record)
            record = artifacts.receive(
                self.ctx, replace(record, promoted=promoted), signed, reader, deadline
            )
        self._report(record)
        return todo

    def _candidate(self, signed: SignedArtifact) -> TemplateRecord:
        mode = "linked" if self.allow_boot else "instant"
        return artifacts.candidate_record(self.ctx, signed, self.tenant, self.name, mode)

    def _report(self, record: TemplateRecord) -> None:
        """Report how hosts are forked from a received template."""
        observation = self.ctx.provider.observe(self.ctx.owner)
        template = observation.template(record.tenant, record.name)
        if template and template.mismatch:
            self.ctx.progress(
                f"{record.title}: hosts boot from its disk, because its memory cannot be resumed: "
                f"{template.mismatch}; build the template to freeze it again here"
            )
        else:
            self.ctx.progress(f"{record.title}: ready to be forked")

    @abstractmethod
    def _opened(self, deadline: Deadline) -> AbstractContextManager[ArtifactReader]:
        """Return the artifact for the length of a ``with`` block."""

    @abstractmethod
    def _place(self) -> str:
        """Return the place of the artifact, for messages."""

    def _signed(self, reader: ArtifactReader) -> SignedArtifact:
        keys = (*_own_keys(self.ctx, self.tenant), *self.trusted_keys)
        if not keys:
            raise InvalidInput(
                f"tenant {self.tenant} has no authority, and no key is trusted.",
                name=self._place(),
                remedy="use the pki_dir of the signer's tenant, or trust the key of the signer",
            )
        return artifacts.require(artifacts.read_signed(reader, self._place(), keys), self._place())

    def _existing(self, signed: SignedArtifact, observation: Observation) -> Template | None:
        generation = signed.artifact.record.generation
        return next(
            (
                template
                for template in observation.generations(self.tenant, self.name)
                if template.record.generation == generation
            ),
            None,
        )

    def _plan(self, signed: SignedArtifact, observation: Observation) -> Plan:
        existing = self._existing(signed, observation)
        current = observation.template(self.tenant, self.name)
        before = {"generation": current.record.generation[:12]} if current else {}
        after = {"generation": signed.artifact.record.generation[:12]}
        if existing and existing.usable and (self.allow_boot or not existing.mismatch):
            if existing is current:
                return Plan()
            reason = f"{self._place()} names an earlier generation"
            return Plan((Action("promote", "template", self.name, reason, before, after),))
        self._candidate(signed)
        reason = f"{self._place()} has a generation that does not exist here"
        return Plan((Action(self.VERB, "template", self.name, reason, before, after),))


@dataclass(frozen=True)
class TemplatePull(_Import):
    """The transfer of an artifact from a registry."""

    place: Reference = field(kw_only=True)
    login: RegistryLogin = field(default=ANONYMOUS, kw_only=True)
    VERB: ClassVar[str] = "pull"

    @contextmanager
    def _opened(self, deadline: Deadline) -> Iterator[ArtifactReader]:
        yield RegistryArtifact(self.place, self.login, deadline)

    def _place(self) -> str:
        return str(self.place)


@dataclass(frozen=True)
class TemplateLoad(_Import):
    """The transfer of an artifact from a file."""

    path: Path = field(kw_only=True)
    VERB: ClassVar[str] = "load"

    @contextmanager
    def _opened(self, deadline: Deadline) -> Iterator[ArtifactReader]:
        with closing(ArchiveReader(self.path)) as reader:
            yield reader

    def _place(self) -> str:
        return str(self.path)


def with_name(operation: Import) -> Import:
    """Return an import with the name of the template; without a declared name, the template has
    the name that is in its artifact.
    """
    if operation.name:
        return operation
    with operation._opened(operation.ctx.deadline(PATIENCE)) as reader:
        return replace(operation, name=operation._signed(reader).artifact.record.name)


def _generation(observation: Observation, tenant: str, name: str, digits: str) -> Template:
    """Return the generation to transfer.

    :raises NotFound: if there is none.
    """
    candidates = [
        template
        for template in observation.generations(tenant, name)
        if template.usable and template.record.generation.startswith(digits)
    ]
    current = observation.template(tenant, name)
    if not candidates or current is None:
        raise NotFound(
            f"the template has no usable generation {digits}".rstrip() + ".",
            name=f"template {name}",
            remedy="create the template first, or name one of its generations",
        )
    return current if current in candidates else candidates[-1]


def _own_keys(ctx: Context, tenant: str) -> tuple[str, ...]:
    authority = ctx.pki(tenant).existing_authority()
    return (signatures.public_key(authority),) if authority else ()
