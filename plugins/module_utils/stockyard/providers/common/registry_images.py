# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from a registry, by digest, as archives for ``docker load`` (OCI distribution
specification 1.1).

The digest of every part is checked, so neither the sender nor the transport must be trusted.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from ... import web
from ...clock import Deadline
from ...errors import DeadlineExceeded, ImageError
from ...model import untrusted
from ...model.preload import Reference

LISTS = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
SINGLE = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
LARGEST_MANIFEST = 4 << 20
CHUNK = 1 << 20
# No layer is larger; its own size is in the manifest, which the registry wrote.
LARGEST_BLOB = 1 << 36
IDLE = 60.0
# Docker's own limit is 127.
MOST_LAYERS = 256
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')


def fetch(source: Reference, name: str, target: Path, deadline: Deadline) -> None:
    """Write an image as an archive.

    :param name: the image's name in Docker.
    :raises ImageError: if the registry does not provide it, or provides other data.
    """
    title = f"image {source.name}@sha256:{source.digest[:12]}"
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            _Pull(source, deadline).archive(name, Path(work), target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if deadline.passed():
            raise DeadlineExceeded(
                "the registry did not answer in time.", name=title, cause=str(error)
            ) from error
        raise ImageError(
            "the registry did not return the image.",
            name=title,
            cause=f"{source.registry}: {error}"[:1000],
            remedy="check that this machine can reach the registry, and that the registry "
            "has this digest",
        ) from error


class _Pull:
    def __init__(self, source: Reference, deadline: Deadline) -> None:
        self.source = source
        self.deadline = deadline
        self._token = ""

    def archive(self, name: str, work: Path, target: Path) -> None:
        """Write all parts, and the list of them that ``docker load`` begins with."""
        manifest = self._manifest()
        config = self._blob(_digest(untrusted.item(manifest, "config", "the manifest")), work)
        parts = untrusted.items(
            untrusted.item(manifest, "layers", "the manifest"), "layers", MOST_LAYERS
        )
        layers = [self._blob(_digest(layer), work) for layer in parts]
        entries = [
            {
                "Config": config.name,
                "RepoTags": [_tagged(name)],
                "Layers": [layer.name for layer in layers],
            }
        ]
        (work / "manifest.json").write_text(json.dumps(entries))
        with tarfile.open(target, "w") as archive:
            for path in dict.fromkeys((work / "manifest.json", config, *layers)):
                archive.add(path, path.name)

    def _manifest(self) -> dict[str, Any]:
        manifest = self._read(self.source.digest)
        if manifest.get("mediaType") in LISTS or "manifests" in manifest:
            manifests = untrusted.items(
                untrusted.item(manifest, "manifests", "the list"), "manifests"
            )
            candidates = [
                candidate
                for candidate in manifests
                if _fits(untrusted.mapping(candidate, "a manifest").get("platform"))
            ]
            if not candidates:
                raise ValueError("the registry has no image for linux/amd64")
            manifest = self._read(_hex(_digest(candidates[0])))
        return manifest

    def _read(self, digest: str) -> dict[str, Any]:
        with self._open(
            f"manifests/sha256:{digest}", ", ".join((*LISTS, *SINGLE)), LARGEST_MANIFEST
        ) as response:
            data = response.read()
        _same(hashlib.sha256(data).hexdigest(), digest)
        return untrusted.mapping(untrusted.parse(data, longest=LARGEST_MANIFEST), "the manifest")

    def _blob(self, digest: str, work: Path) -> Path:
        expected_digest, hasher = _hex(digest), hashlib.sha256()
        path = work / expected_digest
        with (
            self._open(f"blobs/{digest}", "*/*", LARGEST_BLOB) as response,
            path.open("wb") as file,
        ):
            while data := response.read(CHUNK):
                self.deadline.check("fetch the image", name=self.source.name)
                hasher.update(data)
                file.write(data)
        _same(hasher.hexdigest(), expected_digest)
        return path

    def _open(self, path: str, accept: str, longest: int) -> Any:
        url = f"{self.source.registry}/v2/{self.source.name}/{path}"
        try:
            return self._request(url, accept, longest)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or self._token or not challenge.startswith("Bearer "):
                raise
            self._token = self._login(dict(_CHALLENGE.findall(challenge)))
            return self._request(url, accept, longest)

    def _login(self, challenge: dict[str, str]) -> str:
        """Return an anonymous token, for registries that require a token of every client."""
        parameters: dict[str, str] = {
            key: value for key, value in challenge.items() if key in ("service", "scope")
        }
        query = urllib.parse.urlencode(parameters)
        with self._request(
            f"{challenge['realm']}?{query}", "application/json", LARGEST_MANIFEST
        ) as response:
            reply = untrusted.mapping(
                untrusted.parse(response.read(), longest=LARGEST_MANIFEST), "the token"
            )
        token = reply.get("token") or untrusted.item(reply, "access_token", "the token")
        return untrusted.line(token, "the token", 1 << 16)

    def _request(self, url: str, accept: str, longest: int) -> Any:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!a} is not a web address")
        # the scheme was checked above
        request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310
        if self._token:
            # The header is not sent to other hosts if the registry redirects to them.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return web.opener(web.Bounds(self.deadline, longest, IDLE)).open(request)


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _fits(platform: Any) -> bool:
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == (
        "linux",
        "amd64",
    )


def _digest(descriptor: Any) -> str:
    facts = untrusted.mapping(descriptor, "a descriptor")
    return untrusted.line(untrusted.item(facts, "digest", "a descriptor"), "digest")


def _hex(digest: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!a} is not a SHA-256 digest")
    return digest.removeprefix("sha256:")


def _same(actual: str, expected: str) -> None:
    if actual != expected:
        raise ValueError(f"the content has the digest {actual[:12]}, not {expected[:12]}")
