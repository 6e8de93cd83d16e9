# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls with the password of a registry, in machines of their own: the memory of the image host is
copied into the machines of containers. Only the images that were pulled are copied to the image
host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal
from ..guest.security.reader.streams import Peer
from ..model.container_machine import LONGEST_BUILD
from .builds import ERROR, LONGEST_FORM, Builds, begin, error_line
from .calls import Call, Reply
from .images import ImageHost, split_name, tag_of_digest
from .lines import Lines

PULL, PUSH = "/images/create", "/push"
# The parts of a name that Docker omits.
_OMITTED = ("index.docker.io/", "docker.io/", "library/")


class RegistryCalls:
    """The calls of an endpoint to registries, with passwords."""

    def __init__(self, lines: Lines, images: ImageHost, builds: Builds) -> None:
        self.lines = lines
        self.images = images
        self.builds = builds

    @asynccontextmanager
    async def answer(self, call: Call, client: Peer) -> AsyncIterator[Reply | AsyncIterator[bytes]]:
        """Answer a call in a new machine with the present images, which is deleted afterwards. The
        value is the output of Docker, or a complete reply.

        :raises Refusal: if the request is badly framed, if the pool or the hypervisor has no room,
            or if Docker does not answer.
        :raises TimeoutError: if the call does not end in time.
        """
        is_pull = call.path == PULL
        async with self.builds.machine() as machine, asyncio.timeout(LONGEST_BUILD):
            docker = await self.lines.take(machine)
            try:
                names = await self._names(machine) if is_pull else {}
                is_stream = is_pull or call.path.endswith(PUSH)
                output = await begin(call, client, docker, is_stream=is_stream)
                if is_pull and not isinstance(output, Reply):
                    output = self._pull(call, machine, names, output)
                yield output
            finally:
                docker.abort()

    async def _pull(
        self, call: Call, machine: str, names: dict[str, str], blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Return the output of a pull, and copy its images before the end.

        :param names: the names in the machine before the pull.
        """
        failed, window = False, b""
        async for block in blocks:
            window += block
            failed = failed or ERROR in window
            window = window[-LONGEST_FORM:]
            yield block
        if failed:
            return
        try:
            await self._return_images(call, machine, names)
        except Refusal as refusal:
            yield error_line(refusal)

    async def _return_images(self, call: Call, machine: str, names: dict[str, str]) -> None:
        repository, tag = _requested(call)
        if "@" in repository:
            # Docker gives an image no digest when it is loaded.
            pulled = {tag_of_digest(*repository.split("@", 1)): repository}
        elif tag:
            pulled = {f"{repository}:{tag}": f"{repository}:{tag}"}
        else:
            present = await self._names(machine)
            tags = [
                split_name(name)[1]
                for name, identifier in present.items()
                if names.get(name) != identifier and split_name(name)[0] == _familiar(repository)
            ]
            pulled = {f"{repository}:{tag}": f"{repository}:{tag}" for tag in tags}
        images: list[tuple[str, str]] = []
        for name, reference in pulled.items():
            identifier = await self.images.id_of(reference, machine)
            if identifier and identifier != await self.images.id_of(name):
                images.append((name, identifier))
        if images:
            identifiers = sorted({identifier for _name, identifier in images})
            await self.images.receive(machine, identifiers, images)

    async def _names(self, machine: str) -> dict[str, str]:
        """Return the names of all images of a machine, each with the id of its image."""
        reply = await self.lines.ask(machine, "GET", "/images/json")
        if reply.status != HTTPStatus.OK:
            raise Refusal(
                "Docker in the machine of the call has no images.", HTTPStatus.BAD_GATEWAY
            )
        return {
            str(name): str(image["Id"])
            for image in reply.json()
            for name in image.get("RepoTags") or ()
        }


def _requested(call: Call) -> tuple[str, str]:
    """Return the repository and the tag of a pull. The tag is empty if the repository ends with a
    digest, or if the pull is of all tags.
    """
    image, tag = call.value("fromImage"), call.value("tag")
    if ":" in tag:
        return f"{split_name(image)[0]}@{tag}", ""
    if "@" in image:
        name, _at, digest = image.partition("@")
        return f"{split_name(name)[0]}@{digest}", ""
    return (split_name(image)[0], tag) if tag else split_name(image)


def _familiar(repository: str) -> str:
    """Return a repository as Docker shows it."""
    for part in _OMITTED:
        repository = repository.removeprefix(part)
    return repository
