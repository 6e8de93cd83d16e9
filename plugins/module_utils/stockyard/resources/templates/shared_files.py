# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that owners share: signed files in one directory, which each owner loads as a copy.

A file is named by the digest of the declaration and the key of its signer, and only files of
trusted signers are read. So owners can change neither each other's templates nor the choice of a
file, whatever they write to the directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ...artifacts.archive import ArchiveReader, ArchiveWriter
from ...clock import Deadline
from ...errors import ImageError, InvalidInput, StockyardError
from ...guest.recipe import RenderedTemplate
from ...model.observation import Observation
from ...model.template import TemplateRecord
from ...paths import expand_user
from ...pki import signatures
from ...planning.plan import Action, Plan
from ...planning.templates import too_old
from ..context import Context
from . import artifacts
from .artifacts import SignedArtifact

# The mode of shared files. The directory decides who reads them.
READABLE = 0o644
# Seconds that writing a file can take.
SAVE_TIMEOUT = 3600.0


@dataclass(frozen=True)
class SharedTemplate:
    """A generation of a declaration in a file.

    :param record: the record that the template gets here.
    """

    path: Path
    signed: SignedArtifact
    record: TemplateRecord

    def planned(self, action: Action) -> Action:
        """Return the action that loads the template instead of building it."""
        after = {"generation": self.record.generation[:12]}
        reason = f"{action.reason}; {self.path} has it, signed by {self.signed.key[:12]}"
        before = {key: action.before[key] for key in after if key in action.before}
        return Action("load", "template", action.name, reason, before, after)


def with_shared(
    ctx: Context, declared: RenderedTemplate, todo: Plan, observation: Observation
) -> Plan:
    """Return a plan that loads a shared template instead of building it, if there is one."""
    is_built = any(action.verb == "build" for action in todo.actions)
    shared = find(ctx, declared, observation) if is_built else None
    if shared is None:
        return todo
    return Plan(
        tuple(
            shared.planned(action) if action.verb == "build" else action for action in todo.actions
        )
    )


def find(
    ctx: Context, declared: RenderedTemplate, observation: Observation
) -> SharedTemplate | None:
    """Return a shared template of a declaration that can be used here, if there is one. Files that
    cannot be used are reported.
    """
    spec = declared.spec
    # An upgrade asks the mirror, which knows nothing of files.
    if not spec.share_dir or spec.upgrade:
        return None
    authority = ctx.pki(spec.tenant).existing_authority()
    own_keys = (signatures.public_key(authority),) if authority else ()
    for key in dict.fromkeys((*own_keys, *spec.trusted_keys)):
        path = file_of(declared, key)
        try:
            shared = _read(ctx, declared, path, key)
        except StockyardError as error:
            ctx.progress(f"template {spec.name}: {path} is not used: {error}")
            continue
        if shared and _is_new(ctx, declared, shared, observation):
            return shared
    return None


def load(ctx: Context, shared: SharedTemplate, promoted: float, deadline: Deadline) -> bool:
    """Store a copy of a shared template; return whether that succeeded. The file can be damaged, or
    be deleted after the plan: then nothing is stored.

    :param promoted: the time from which the generation is the current one.
    """
    record = replace(shared.record, promoted=promoted)
    try:
        with _opened(shared.path) as reader:
            if reader is None:
                raise ImageError("the file was deleted.", name=str(shared.path))
            record = artifacts.receive(ctx, record, shared.signed, reader, deadline)
    except (ImageError, InvalidInput) as error:
        ctx.progress(f"{record.title}: {shared.path} is not used: {error}")
        return False
    ctx.progress(f"{record.title}: loaded from {shared.path}")
    return True


def save(ctx: Context, declared: RenderedTemplate, record: TemplateRecord) -> None:
    """Save a generation that was built here for other owners. The template is complete without its
    file, so a failure is only reported.
    """
    spec = declared.spec
    authority = ctx.pki(spec.tenant).authority(ctx.today())
    path = file_of(declared, signatures.public_key(authority))
    deadline = ctx.deadline(SAVE_TIMEOUT)
    try:
        artifacts.check_export(ctx, record)
        with closing(ArchiveWriter(path, READABLE)) as writer:
            artifacts.send(ctx, record, authority, writer, (), deadline)
    except StockyardError as error:
        ctx.progress(f"{record.title}: not shared: {error}")
    else:
        ctx.progress(f"{record.title}: shared as {path}")


def file_of(declared: RenderedTemplate, key: str) -> Path:
    """Return the path of the file of a declaration and a signer."""
    return expand_user(declared.spec.share_dir) / f"{declared.digest}-{key}.tar"


def _read(ctx: Context, declared: RenderedTemplate, path: Path, key: str) -> SharedTemplate | None:
    with _opened(path) as reader:
        if reader is None:
            return None
        signed = artifacts.read_signed(reader, str(path), (key,))
        if signed is None or signed.artifact.record.recipe != declared.digest:
            raise ImageError("the file has the template of another declaration.", name=str(path))
        spec = declared.spec
        record = artifacts.candidate_record(ctx, signed, spec.tenant, spec.name, "instant")
        return SharedTemplate(path, signed, record)


@contextmanager
def _opened(path: Path) -> Iterator[ArchiveReader | None]:
    """Open a file; yield nothing if it does not exist.

    :raises InvalidInput: if it cannot be read.
    :raises ImageError: if it is not a saved template.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise InvalidInput("the file cannot be read.", name=str(path), cause=str(error)) from error
    with closing(ArchiveReader(path)) as reader:
        yield reader


def _is_new(
    ctx: Context, declared: RenderedTemplate, shared: SharedTemplate, observation: Observation
) -> bool:
    """Return whether a shared template is another generation than those that exist, and not one
    that would be built again at once.
    """
    spec = declared.spec
    existing = {
        template.record.generation
        for template in observation.generations(spec.tenant, spec.name)
        if template.usable
    }
    return shared.record.generation not in existing and not too_old(
        spec, shared.record, ctx.clock.now()
    )
