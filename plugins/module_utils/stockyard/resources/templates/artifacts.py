# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates to artifacts, and artifacts to templates.

An artifact is verified before anything of it is stored: the signature of its configuration, and the
platform. Its content is verified while it arrives.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ...artifacts import documents
from ...artifacts.documents import blob_of
from ...artifacts.pages import HASH, Packer, content_digest, restore
from ...artifacts.store import ArtifactReader, ArtifactWriter
from ...clock import Deadline
from ...errors import ImageError, NotFound, Unsupported
from ...model import codec
from ...model.artifact import IMAGE_FILE, Artifact, ArtifactFile, Blob, Pack
from ...model.template import TemplateRecord
from ...pki import signatures
from ...pki.authority import Authority
from ..context import Context

MIB = 1 << 20
# The parts of a transfer that are reported.
STEPS = 8
KnownPacks = tuple[tuple[Pack, bytes], ...]


@dataclass(frozen=True)
class SignedArtifact:
    """An artifact whose signature was verified.

    :param digest: the digest of its manifest.
    :param key: the public key of the signer.
    """

    artifact: Artifact
    digest: str
    key: str
    total_bytes: int


@dataclass(frozen=True)
class Transfer:
    """A completed transfer to an artifact.

    :param sent_bytes: the size of the content that did not exist yet.
    """

    digest: str
    key: str
    total_bytes: int
    sent_bytes: int


def read_signed(reader: ArtifactReader, name: str, keys: Iterable[str]) -> SignedArtifact | None:
    """Return an artifact, if it exists and is signed by one of the keys.

    :param name: the artifact, for errors.
    :param keys: public keys that are trusted.
    :raises ImageError: if it is unsigned, signed by another key, changed or truncated.
    """
    data = reader.manifest()
    if data is None:
        return None
    try:
        manifest = documents.decode_manifest(data)
        trusted_keys = frozenset(keys)
        if not manifest.signature or not manifest.key:
            raise ImageError(
                "the artifact is not signed.",
                remedy="push or save the template again, with the keys of its tenant",
            )
        if manifest.key not in trusted_keys:
            raise ImageError(
                "the signer of the artifact is not trusted.",
                cause=f"its key is {manifest.key[:64]}",
                remedy="use the pki_dir of the signer's tenant, or trust the key of the signer",
            )
        config = reader.read(manifest.config)
        if not signatures.is_signed(manifest.key, config, manifest.signature):
            raise ImageError(
                "the signature of the artifact is not valid.",
                cause="its configuration was changed after it was signed",
                remedy="push or save the template again",
            )
        artifact = documents.decode_config(config)
    except ImageError as error:
        error.name = error.name or name
        raise
    total = len(config) + sum(blob.size for _kind, blob in artifact.blobs)
    return SignedArtifact(artifact, manifest.digest, manifest.key, total)


def check_export(ctx: Context, record: TemplateRecord) -> None:
    """Refuse a template that no hypervisor could use.

    :raises Unsupported: with the reason.
    """
    ctx.provider.template_files.check_export(record)
    if record.platform is None:
        raise unknown_platform(record)


def unknown_platform(record: TemplateRecord) -> Unsupported:
    """Return the error for a template without a recorded platform."""
    return Unsupported(
        "the platform of the template is not known.",
        name=record.title,
        cause="an earlier version of stockyard froze it",
        remedy="build the template again, and push or save it then",
    )


def send(
    ctx: Context,
    record: TemplateRecord,
    authority: Authority,
    writer: ArtifactWriter,
    known: KnownPacks,
    deadline: Deadline,
) -> Transfer:
    """Write a frozen template to an artifact.

    :param known: packs that exist at the writer.
    """
    meter = _Meter(ctx, record.title, "read")
    sent = {"bytes": 0}

    def put(data: bytes) -> Blob:
        deadline.check("transfer the template", name=record.title)
        blob = blob_of(data)
        if not writer.has(blob):
            writer.write(blob, data)
            sent["bytes"] += len(data)
        return blob

    with ctx.provider.template_files.opened(record) as content:
        meter.total = sum(path.stat().st_blocks * 512 for path in content.files.values())
        packer = Packer(put, known)
        files = tuple(
            ArtifactFile(name, packer.add(path, meter.advance))
            for name, path in content.files.items()
        )
        packs, index, hashes = packer.finish()
    artifact = Artifact(
        record=replace(record, checksums=None, promoted=0.0, version=1),
        machine=content.machine,
        files=files,
        packs=tuple(packs),
        index=put(index),
        hashes=put(b"".join(hashes)),
        provider=ctx.provider.template_files.kind,
    )
    config = documents.encode_config(artifact)
    put(config)
    key = signatures.public_key(authority)
    manifest = documents.encode_manifest(artifact, config, signatures.sign(authority, config), key)
    writer.finish(manifest)
    total = len(config) + sum(blob.size for _kind, blob in artifact.blobs)
    ctx.progress(
        f"{record.title}: {total // MIB} MiB compressed, of which {sent['bytes'] // MIB} MiB were "
        "transferred"
    )
    return Transfer(blob_of(manifest).digest, key, total, sent["bytes"])


def known_packs(
    signed: SignedArtifact, reader: ArtifactReader, exists: Callable[[Blob], bool]
) -> KnownPacks:
    """Return the packs of an artifact with the hashes of their pages, as far as they exist.

    :param exists: returns whether a blob exists at the writer.
    """
    hashes, position, packs = reader.read(signed.artifact.hashes), 0, []
    for pack in signed.artifact.packs:
        end = position + pack.pages * HASH
        if end <= len(hashes) and exists(pack.blob):
            packs.append((pack, hashes[position:end]))
        position = end
    return tuple(packs)


def candidate_record(
    ctx: Context, signed: SignedArtifact, tenant: str, name: str, mode: str
) -> TemplateRecord:
    """Return the record that a template gets here, and refuse one that cannot be forked.

    :param name: its name here; empty for its own.
    :param mode: the mode of its forks: ``linked`` accepts memory that cannot be resumed here.
    :raises Unsupported: if the platform is another one than that of the freeze.
    """
    artifact = signed.artifact
    record = replace(
        artifact.record,
        owner=ctx.owner,
        tenant=tenant,
        name=name or artifact.record.name,
        uuid=str(uuid.uuid4()),
        version=1,
        promoted=0.0,
        checksums=None,
    )
    files = ctx.provider.template_files
    if files.kind != artifact.provider:
        raise Unsupported(
            "the template cannot be used on this hypervisor.",
            name=record.title,
            cause=f"it was frozen on a hypervisor of the kind {artifact.provider}, and this is one "
            f"of the kind {files.kind}",
            remedy="build the template on this hypervisor",
        )
    if record.platform is None:
        raise unknown_platform(record)
    sizes = {file.name: file.size for file in artifact.files}
    files.check(record, artifact.machine, sizes, mode)
    return record


def receive(
    ctx: Context,
    record: TemplateRecord,
    signed: SignedArtifact,
    reader: ArtifactReader,
    deadline: Deadline,
) -> TemplateRecord:
    """Store the template of an artifact; return its record. If that fails, nothing is stored."""
    artifact = signed.artifact
    meter = _Meter(ctx, record.title, "received")
    meter.total = sum(pack.blob.size for pack in artifact.packs)

    def fetch(blob: Blob) -> bytes:
        deadline.check("transfer the template", name=record.title)
        data = reader.read(blob)
        meter.advance(len(data))
        return data

    index = reader.read(artifact.index)
    record = replace(record, image=_image_of(signed, index, reader))
    files = ctx.provider.template_files
    try:
        with files.receive(record, artifact.machine, deadline) as incoming:
            restore(incoming.paths, artifact.files, artifact.packs, index, fetch)
            return incoming.finish(deadline)
    except ImageError as error:
        error.name = error.name or record.title
        raise


def _image_of(signed: SignedArtifact, index: bytes, reader: ArtifactReader) -> str:
    """Return the name of an image here.

    Images are named by their packages, and two builds of the same packages differ in every file
    system. The disk and the memory of a template fit one of them only, so a received image is named
    by its content. The signer is part of the name: it must not choose the image of other templates.
    """
    artifact = signed.artifact
    hashes = reader.read(artifact.hashes)
    content = content_digest(IMAGE_FILE, artifact.files, artifact.packs, index, hashes)
    if not content:
        return artifact.record.image
    return codec.digest({"image": artifact.record.image, "content": content, "key": signed.key})


def require(signed: SignedArtifact | None, name: str) -> SignedArtifact:
    """Return an artifact that must exist.

    :raises NotFound: if it does not.
    """
    if signed is None:
        raise NotFound(
            "the artifact does not exist.", name=name, remedy="push the template, or name its tag"
        )
    return signed


class _Meter:
    """The progress of a transfer."""

    def __init__(self, ctx: Context, title: str, verb: str) -> None:
        self.total = 0
        self._ctx, self._title, self._verb = ctx, title, verb
        self._done, self._next = 0, 0
        self._start = ctx.clock.monotonic()

    def advance(self, count: int) -> None:
        """Count bytes, and report each eighth of the whole."""
        self._done += count
        if self._done >= self._next and self.total >= MIB:
            seconds = self._ctx.clock.monotonic() - self._start
            self._ctx.progress(
                f"{self._title}: {self._verb} {self._done // MIB} of {self.total // MIB} MiB "
                f"({seconds:.0f} s)"
            )
            self._next = self._done + self.total // STEPS
