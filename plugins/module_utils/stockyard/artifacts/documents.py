# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents of an artifact: manifest and signed configuration."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ImageError, InvalidInput
from ..model import codec, untrusted
from ..model.artifact import (
    ARTIFACT_TYPE,
    CONFIG_TYPE,
    KEY,
    LARGEST_DOCUMENT,
    MANIFEST_TYPE,
    SIGNATURE,
    Artifact,
    Blob,
)


@dataclass(frozen=True)
class Manifest:
    """A manifest: the configuration of an artifact, and its signature.

    :param digest: the digest of the manifest.
    :param signature: the signature of the configuration; empty for none.
    :param key: the public key of the signer, in hex; empty for none.
    """

    digest: str
    config: Blob
    signature: bytes
    key: str


def blob_of(data: bytes) -> Blob:
    """Return the digest and the size of content."""
    return Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def verified(blob: Blob, data: bytes) -> bytes:
    """Return content if it has the digest and the size of a blob.

    :raises ImageError: if the content was changed or truncated.
    """
    if blob_of(data) != blob:
        raise ImageError(
            "the artifact was changed or truncated.",
            cause=f"a part with the digest {blob.digest[7:19]} and {blob.size} bytes has "
            f"{len(data)} bytes with the digest {blob_of(data).digest[7:19]}",
            remedy="push or save the template again",
        )
    return data


def encode_config(artifact: Artifact) -> bytes:
    """Return the configuration as the text that is signed."""
    return codec.dumps(artifact).encode("ascii")


def decode_config(data: bytes) -> Artifact:
    """Return a configuration from its text, of which the signature was verified.

    :raises ImageError: if the text is no complete configuration.
    """
    try:
        document = untrusted.parse(data, longest=LARGEST_DOCUMENT)
        return codec.from_dict(Artifact, document, "artifact")
    except (untrusted.MalformedData, InvalidInput) as error:
        raise ImageError(
            "the artifact is not a template that this version of stockyard can read.",
            cause=str(error),
            remedy="push or save the template again, with the same version of stockyard",
        ) from error


def encode_manifest(artifact: Artifact, config: bytes, signature: bytes, key: str) -> bytes:
    """Return the manifest of an artifact."""
    record = artifact.record
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": _descriptor(CONFIG_TYPE, blob_of(config)),
        "layers": [_descriptor(kind, blob) for kind, blob in _unique(artifact.blobs)],
        "annotations": {
            "org.opencontainers.image.title": record.name,
            "org.opencontainers.image.version": record.generation[:12],
            SIGNATURE: base64.b64encode(signature).decode(),
            KEY: key,
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def decode_manifest(data: bytes) -> Manifest:
    """Return the parts of a manifest that readers need.

    :raises ImageError: if it is not the manifest of a template.
    """
    try:
        document = untrusted.mapping(
            untrusted.parse(data, longest=LARGEST_DOCUMENT), "the manifest"
        )
        config = untrusted.mapping(untrusted.item(document, "config", "the manifest"), "config")
        if config.get("mediaType") != CONFIG_TYPE:
            raise untrusted.MalformedData("its configuration is not that of a template")
        size = untrusted.whole(
            untrusted.item(config, "size", "config"), "size", 1, LARGEST_DOCUMENT
        )
        blob = Blob(untrusted.line(untrusted.item(config, "digest", "config"), "digest"), size)
        annotations = untrusted.mapping(document.get("annotations", {}), "annotations")
        signature = untrusted.line(annotations.get(SIGNATURE, ""), "the signature")
        key = untrusted.line(annotations.get(KEY, ""), "the key")
        return Manifest(blob_of(data).digest, blob, base64.b64decode(signature, validate=True), key)
    except (ValueError, InvalidInput) as error:
        raise ImageError(
            "the artifact is not a template.",
            cause=str(error),
            remedy="name an artifact that stockyard pushed or saved",
        ) from error


def _descriptor(kind: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _unique(blobs: Iterable[tuple[str, Blob]]) -> list[tuple[str, Blob]]:
    return list({blob.digest: (kind, blob) for kind, blob in blobs}.values())
