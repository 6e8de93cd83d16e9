# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image host of an endpoint: changes of images, and the generation that machines fork from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from ..guest.security.reader.grammar import Refusal
from .calls import Call, Reply, in_path, json_reply
from .containers import Container, Containers
from .image_copies import copy_images
from .lines import LONG, SHORT, Lines
from .machines import IMAGE_HOST, Machines
from .snapshots import Facts, Snapshots, is_running, is_sound

# The label of containers on the image host that only keep their image.
_PLACEHOLDER = "stockyard.placeholder"
_ID = re.compile("sha256:[0-9a-f]{64}")


class ImageHost:
    """The image host.

    :param containers: the containers, which use images.
    :param snapshots: their last known facts.
    """

    def __init__(
        self, machines: Machines, lines: Lines, containers: Containers, snapshots: Snapshots
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.containers = containers
        self.snapshots = snapshots
        # The number of the last generation.
        self.generation = 0
        # The time of the last change, by the clock of the loop.
        self.changed_at = 0.0
        self._stale = True
        self._builds = 0
        self._no_builds = asyncio.Event()
        self._no_builds.set()
        self._renewing = asyncio.Lock()

    @property
    def is_stale(self) -> bool:
        """Return whether images changed since the last generation."""
        return self._stale

    @asynccontextmanager
    async def changing(self, builds: bool) -> AsyncIterator[None]:
        """Note that images change in this block.

        :param builds: whether containers can run on the image host in it. They must not be
            copied into container machines.
        """
        if builds:
            # A freeze that has begun ends first.
            async with self._renewing:
                self._builds += 1
                self._no_builds.clear()
        try:
            yield
        finally:
            self._stale = True
            self.changed_at = asyncio.get_running_loop().time()
            if builds:
                self._builds -= 1
                if not self._builds:
                    self._no_builds.set()

    async def ensure_generation(self) -> None:
        """Freeze the image host if its images changed since the last time."""
        async with self._renewing:
            if self._stale:
                await self._no_builds.wait()
                self._stale = False
                try:
                    await self.machines.renew_generation()
                    self.generation += 1
                except BaseException:
                    self._stale = True
                    raise

    async def check_exists(self, image: str) -> None:
        """Refuse an image that the image host does not have, in Docker's words."""
        reply = await self.lines.ask(IMAGE_HOST, "GET", f"/images/{in_path(image)}/json")
        if reply.status == HTTPStatus.NOT_FOUND:
            last = image.rpartition("/")[2]
            tagged = image if ":" in last or "@" in last else f"{image}:latest"
            raise Refusal(f"No such image: {tagged}", HTTPStatus.NOT_FOUND)

    async def exposed_ports(self, image: str) -> list[str]:
        """Return the ports that an image exposes, such as ``80/tcp``; none without the image."""
        reply = await self.lines.ask(IMAGE_HOST, "GET", f"/images/{in_path(image)}/json")
        facts = reply.json() if reply.status == HTTPStatus.OK else {}
        return list((facts.get("Config") or {}).get("ExposedPorts") or {})

    async def remove(self, call: Call, reference: str) -> Reply:
        """Remove an image that no container uses."""
        path = f"/images/{in_path(reference)}"
        image = await self.lines.ask(IMAGE_HOST, "GET", f"{path}/json")
        if image.status == HTTPStatus.OK:
            facts = image.json()
            # One name of several can always be removed.
            if len(facts.get("RepoTags") or ()) < 2 or facts["Id"].endswith(reference):
                await self._check_unused(facts, reference, call.flag("force"))
        return await self.lines.ask(IMAGE_HOST, "DELETE", call.prefix + call.target, patience=LONG)

    async def prune(self, call: Call) -> Reply:
        """Remove the images that no container uses and that meet the filters. While Docker in the
        image host decides, the image of each container has a container there, which never runs.
        """
        used = {str((await self._inspect(container)).get("Image")) for container in self.containers}
        try:
            for image in sorted(used):
                config = {"Image": image, "Labels": {_PLACEHOLDER: ""}}
                await self.lines.ask(IMAGE_HOST, "POST", "/containers/create", config)
            return await self.lines.ask(
                IMAGE_HOST, "POST", call.prefix + call.target, patience=LONG
            )
        finally:
            await self.remove_placeholders()

    async def remove_placeholders(self) -> None:
        """Remove the containers of a prune, or those that an interrupted prune left."""
        filters = quote(json.dumps({"label": [_PLACEHOLDER]}))
        await self.lines.ask(IMAGE_HOST, "POST", f"/containers/prune?filters={filters}")

    async def _check_unused(self, facts: dict[str, Any], reference: str, force: bool) -> None:
        identifier = facts["Id"].removeprefix("sha256:")
        by_id = identifier.startswith(reference.removeprefix("sha256:"))
        for container in self.containers:
            inspected = await self._inspect(container)
            if inspected.get("Image") != facts["Id"]:
                continue
            running = is_running(inspected)
            if running and (force or by_id):
                raise Refusal(
                    f"conflict: unable to delete {identifier[:12]} (cannot be forced) - image is "
                    f"being used by running container {container.id[:12]}",
                    HTTPStatus.CONFLICT,
                )
            if force:
                continue
            if by_id:
                raise Refusal(
                    f"conflict: unable to delete {identifier[:12]} (must be forced) - image is "
                    f"being used by stopped container {container.id[:12]}",
                    HTTPStatus.CONFLICT,
                )
            raise Refusal(
                f'conflict: unable to remove repository reference "{reference}" (must force) - '
                f"container {container.id[:12]} is using its referenced image {identifier[:12]}",
                HTTPStatus.CONFLICT,
            )

    async def _inspect(self, container: Container) -> Facts:
        """Return the facts of a container; the last known ones if its machine does not answer."""
        path = f"/containers/{container.id}/json"
        with contextlib.suppress(Refusal):
            reply = await self.lines.ask(container.machine, "GET", path, patience=SHORT)
            if reply.status == HTTPStatus.OK and is_sound(facts := reply.json()):
                return dict(facts)
        return self.snapshots.get(container.id) or {}

    async def commit(self, call: Call, body: bytes) -> Reply:
        """Commit a container in its machine, and copy the image to the image host."""
        machine = self.containers.find(call.value("container")).machine
        reply = await self.lines.ask(
            machine, "POST", call.prefix + call.target, body or b"{}", patience=LONG
        )
        if reply.status != HTTPStatus.CREATED:
            return reply
        identifier = _image_id(reply, "Id")
        if not identifier:
            raise Refusal("Docker in the machine returned no image.", HTTPStatus.BAD_GATEWAY)
        inspected = await self.lines.ask(machine, "GET", f"/images/{in_path(identifier)}/json")
        # With its parent, because Docker then keeps their relation.
        images = [image for image in (identifier, _image_id(inspected, "Parent")) if image]
        await copy_images(self.lines, machine, IMAGE_HOST, images, keep_names=False)
        if repository := call.value("repo"):
            name = f"repo={quote(repository, safe='')}&tag={quote(call.value('tag'), safe='')}"
            tagged = await self.lines.ask(
                IMAGE_HOST, "POST", f"/images/{in_path(identifier)}/tag?{name}"
            )
            if tagged.status != HTTPStatus.CREATED:
                return tagged
        return json_reply({"Id": identifier}, HTTPStatus.CREATED)

    async def receive(
        self, machine: str, images: Sequence[str], names: Iterable[tuple[str, str]]
    ) -> None:
        """Copy images from a machine of its own, without their names there, and name them.

        :param images: their ids.
        :param names: each name, with the id of its image.
        :raises Refusal: if one of the machines fails, or refuses a name.
        """
        async with self.changing(builds=False):
            await copy_images(self.lines, machine, IMAGE_HOST, images, keep_names=False)
            for name, identifier in names:
                await self._tag(identifier, name)

    async def _tag(self, identifier: str, name: str) -> None:
        repository, tag = split_name(name)
        query = urlencode({"repo": repository, "tag": tag or "latest"})
        path = f"/images/{in_path(identifier)}/tag?{query}"
        reply = await self.lines.ask(IMAGE_HOST, "POST", path)
        if reply.status != HTTPStatus.CREATED:
            message = str(reply.json().get("message") or reply.status)
            raise Refusal(f"The image cannot be tagged {name}: {message}", HTTPStatus.BAD_GATEWAY)

    async def stored_name(self, reference: str) -> str:
        """Return the name of an image in the image host. An image that was pulled by its digest and
        with a password has a tag instead of the digest there.
        """
        name, at, digest = reference.partition("@")
        if not at or await self.id_of(reference):
            return reference
        tagged = tag_of_digest(split_name(name)[0], digest)
        return tagged if await self.id_of(tagged) else reference

    async def id_of(self, reference: str, machine: str = IMAGE_HOST) -> str:
        """Return the id of an image in a machine; empty without the image."""
        reply = await self.lines.ask(machine, "GET", f"/images/{in_path(reference)}/json")
        return _image_id(reply, "Id") if reply.status == HTTPStatus.OK else ""

    async def ensure(self, machine: str, image: str) -> None:
        """Copy an image to a machine that is older than the image.

        :raises Refusal: if the image host does not have the image, in Docker's words.
        """
        await self.check_exists(image)
        if await self.id_of(image, machine) != await self.id_of(image):
            await copy_images(self.lines, IMAGE_HOST, machine, [image], keep_names=True)


def _image_id(reply: Reply, field: str) -> str:
    """Return the id of an image in a field of a reply; empty if there is none: programs in a
    machine can write anything.
    """
    facts = reply.json()
    identifier = str(facts.get(field)) if isinstance(facts, dict) else ""
    return identifier if _ID.fullmatch(identifier) else ""


def split_name(name: str) -> tuple[str, str]:
    """Return the repository and the tag of a name; the tag is empty if there is none."""
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def tag_of_digest(repository: str, digest: str) -> str:
    """Return the name of an image that was pulled by its digest and with a password."""
    return f"{repository}:{digest.replace(':', '-')}"
