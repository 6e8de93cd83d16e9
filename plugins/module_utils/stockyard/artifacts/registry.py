# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact in a registry (OCI distribution specification 1.1)."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .. import web
from ..clock import Deadline
from ..errors import DeadlineExceeded, HypervisorError, ImageError, InvalidInput
from ..model import untrusted
from ..model.artifact import LARGEST_DOCUMENT, MANIFEST_TYPE, Blob, Reference
from ..model.login import RegistryLogin
from .documents import blob_of, verified

IDLE = 60.0
# A transfer that was interrupted is repeated: blobs are small.
ATTEMPTS, PAUSE = 4, 1.0
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
T = TypeVar("T")


class RegistryArtifact:
    """One artifact in a registry.

    :param place: the artifact, with its tag.
    :param deadline: the limit of all requests together.
    """

    def __init__(self, place: Reference, login: RegistryLogin, deadline: Deadline) -> None:
        self.place = place
        self.deadline = deadline
        self._login_data = login
        self._authorization = ""

    def tagged(self, tag: str) -> RegistryArtifact:
        """Return another artifact of the same repository."""
        artifact = RegistryArtifact(replace(self.place, tag=tag), self._login_data, self.deadline)
        artifact._authorization = self._authorization
        return artifact

    def manifest(self) -> bytes | None:
        """Return the manifest; ``None`` if the registry does not have it."""
        headers = {"Accept": MANIFEST_TYPE}

        def get() -> bytes | None:
            try:
                with self._open(
                    "GET", f"manifests/{self.place.tag}", LARGEST_DOCUMENT, headers
                ) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    error.close()
                    return None
                raise

        data = self._attempt(get)
        if data is not None and self.place.tag.startswith("sha256:"):
            verified(Blob(self.place.tag, len(data)), data)
        return data

    def read(self, blob: Blob) -> bytes:
        """Return the content of a blob."""

        def get() -> bytes:
            with self._open("GET", f"blobs/{blob.digest}", blob.size) as response:
                return bytes(response.read())

        return verified(blob, self._attempt(get))

    def has(self, blob: Blob) -> bool:
        """Return whether the repository has a blob."""

        def head() -> bool:
            try:
                with self._open("HEAD", f"blobs/{blob.digest}", 0) as response:
                    return int(response.headers.get("Content-Length", -1)) == blob.size
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    error.close()
                    return False
                raise

        return self._attempt(head)

    def adopt(self, blob: Blob, repository: str) -> bool:
        """Return whether the repository has a blob, also from another repository of the same
        registry, without sending it.
        """
        if repository == self.place.repository or self.has(blob):
            return self.has(blob)

        def mount() -> None:
            query = urllib.parse.urlencode({"mount": blob.digest, "from": repository})
            with self._open("POST", f"blobs/uploads/?{query}", LARGEST_DOCUMENT, data=b""):
                return

        self._attempt(mount)
        return self.has(blob)

    def write(self, blob: Blob, data: bytes) -> None:
        """Send a blob."""

        def put() -> None:
            with self._open("POST", "blobs/uploads/", LARGEST_DOCUMENT, data=b"") as response:
                location = response.headers.get("Location", "")
            url = urllib.parse.urljoin(self._url("blobs/uploads/"), location)
            if not self._is_own(url):
                raise ValueError("the registry names another server for uploads")
            query = urllib.parse.urlencode({"digest": blob.digest})
            sign = "&" if urllib.parse.urlsplit(url).query else "?"
            headers = {"Content-Type": "application/octet-stream"}
            with self._request("PUT", f"{url}{sign}{query}", LARGEST_DOCUMENT, headers, data):
                return

        self._attempt(put)

    def finish(self, manifest: bytes) -> None:
        """Send the manifest."""
        headers = {"Content-Type": MANIFEST_TYPE}

        def put() -> None:
            with self._open(
                "PUT", f"manifests/{self.place.tag}", LARGEST_DOCUMENT, headers, manifest
            ) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
            if digest and digest != blob_of(manifest).digest:
                raise ValueError("the registry stored another manifest")

        self._attempt(put)

    def _attempt(self, call: Callable[[], T]) -> T:
        """Make a request, and repeat it if the connection breaks or the registry is overloaded.

        :raises HypervisorError: if the registry does not do what was requested.
        """
        number = 0
        while True:
            number += 1
            self.deadline.check("reach the registry", name=str(self.place))
            try:
                return call()
            except (OSError, http.client.HTTPException, ValueError) as error:
                code = 0
                if isinstance(error, urllib.error.HTTPError):
                    code = error.code
                    error.close()
                final = 400 <= code < 500 and code != 429
                if self.deadline.passed():
                    raise DeadlineExceeded(
                        "the registry did not answer in time.",
                        name=str(self.place),
                        cause=str(error),
                    ) from error
                if isinstance(error, web.TooLarge):
                    raise ImageError(
                        "the registry sent more than the declared size.", name=str(self.place)
                    ) from error
                if final or number >= ATTEMPTS:
                    raise self._failed(error, code) from error
                self.deadline.pause(PAUSE * number)

    def _failed(self, error: Exception, code: int) -> HypervisorError | ImageError:
        if code == 404:
            return ImageError(
                "the registry does not have a part of the artifact.",
                name=str(self.place),
                remedy="push the template again",
            )
        remedy = "check that this machine can reach the registry, and run again: what exists there "
        remedy += "is not sent again"
        if code in (401, 403):
            remedy = "give the user and the password of an account that may use the repository"
        return HypervisorError(
            "the registry did not do what was requested.",
            name=str(self.place),
            cause=str(error)[:1000],
            remedy=remedy,
        )

    def _open(
        self,
        method: str,
        path: str,
        longest: int,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Any:
        url = self._url(path)
        try:
            return self._request(method, url, longest, headers, data)
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or not challenge:
                raise
            error.close()
            # A token expires: request another one.
            self._authorization = self._login(challenge)
            return self._request(method, url, longest, headers, data)

    def _login(self, challenge: str) -> str:
        """Return the value of the header that a registry requests."""
        username, password = self._login_data.username, self._login_data.password
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        basic = f"Basic {pair}" if username else ""
        if not challenge.startswith("Bearer "):
            return basic
        facts = dict(_CHALLENGE.findall(challenge))
        query = urllib.parse.urlencode(
            {
                "service": facts.get("service", ""),
                "scope": f"repository:{self.place.repository}:pull,push",
            }
        )
        realm = facts.get("realm", "")
        if (
            basic
            and self.place.registry.startswith("https://")
            and (not realm.startswith("https://"))
        ):
            raise ValueError("the registry requests the password without encryption")
        url = f"{realm}?{query}"
        with self._request("GET", url, LARGEST_DOCUMENT, authorization=basic) as response:
            reply = untrusted.mapping(
                untrusted.parse(response.read(), longest=LARGEST_DOCUMENT), "the token"
            )
        token = reply.get("token") or untrusted.item(reply, "access_token", "the token")
        return f"Bearer {untrusted.line(token, 'the token', 1 << 16)}"

    def _request(
        self,
        method: str,
        url: str,
        longest: int,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        authorization: str | None = None,
    ) -> Any:
        if not url.startswith(("http://", "https://")):
            raise ValueError("the registry names no web address")
        # the scheme was checked above
        request = urllib.request.Request(  # noqa: S310
            url, data=data, headers=headers or {}, method=method
        )
        if authorization is None:
            authorization = self._authorization
        if authorization:
            # Passwords and tokens are not sent to other hosts if a server redirects to them.
            request.add_unredirected_header("Authorization", authorization)
        return web.opener(web.Bounds(self.deadline, longest, IDLE)).open(request)

    def _url(self, path: str) -> str:
        return f"{self.place.registry}/v2/{self.place.repository}/{path}"

    def _is_own(self, url: str) -> bool:
        return urllib.parse.urlsplit(url)[:2] == urllib.parse.urlsplit(self.place.registry)[:2]


def require_tag(place: Reference, generation: str) -> Reference:
    """Return a reference with a tag: the generation of the template if there is none.

    :raises InvalidInput: for a digest, which cannot be chosen.
    """
    if place.tag.startswith("sha256:"):
        raise InvalidInput(
            f"{place} names a digest, which the content decides.", remedy="name a tag, or no tag"
        )
    return place if place.tag else replace(place, tag=generation[:12])
