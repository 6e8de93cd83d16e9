# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds in machines of their own. Only the image of a build is copied to the image host."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from ..errors import StockyardError
from ..guest.security.reader.grammar import LINE_END, Refusal, Request
from ..guest.security.reader.streams import Peer
from ..model.container_machine import LONGEST_BUILD
from .calls import JSON, Call, Reply
from .failures import explained
from .images import ImageHost
from .lines import LONGEST_ANSWER, Lines, payload, read_answer
from .machines import Fork, Machines
from .spares import Spares

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Docker's last text of one of these forms names the image of a successful build.
_IMAGE = re.compile(rb"(sha256:[0-9a-f]{64})|Successfully built ([0-9a-f]{12})")
# The start of the line that ends a failed build, and the length of the longest form.
ERROR, LONGEST_FORM = b'{"errorDetail"', 71


class Builds:
    """The builds of an endpoint.

    :param progress: receives a line for each failure that no client is told.
    """

    def __init__(
        self,
        machines: Machines,
        lines: Lines,
        images: ImageHost,
        spares: Spares,
        progress: Callable[[str], None],
    ) -> None:
        self.machines = machines
        self.lines = lines
        self.images = images
        self.spares = spares
        self.progress = progress
        self._deletions: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def build(self, call: Call, client: Peer) -> AsyncIterator[Reply | AsyncIterator[bytes]]:
        """Build in a new machine with the present images, which is deleted afterwards. The value is
        the output of the build, or another reply of Docker.

        :raises Refusal: if the request is badly framed, if the pool or the hypervisor has no room,
            or if Docker does not answer.
        :raises TimeoutError: if the build does not end in time.
        """
        async with self.machine() as machine, self.build_in(call, client, machine) as reply:
            yield reply

    @asynccontextmanager
    async def machine(self) -> AsyncIterator[str]:
        """Fork a machine with the present images, which is deleted at the end of the block.

        :raises Refusal: if the pool or the hypervisor has no room.
        """
        with explained():
            await self.images.ensure_generation()
            request = Fork("", builds=True)
            machine = (await self.spares.with_room(lambda: self.machines.fork(request))).name
        try:
            yield machine
        finally:
            deletion = asyncio.create_task(self._delete(machine))
            self._deletions.add(deletion)
            deletion.add_done_callback(self._deletions.discard)

    @asynccontextmanager
    async def build_in(
        self, call: Call, client: Peer, machine: str
    ) -> AsyncIterator[Reply | AsyncIterator[bytes]]:
        """Build in a machine that runs. The value is as that of ``build``."""
        async with asyncio.timeout(LONGEST_BUILD):
            docker = await self.lines.take(machine)
            try:
                output = await begin(call, client, docker)
                if not isinstance(output, Reply):
                    output = self._output(call, machine, output)
                yield output
            finally:
                docker.abort()

    async def close(self) -> None:
        """Wait until the machines of all builds are deleted."""
        await asyncio.gather(*self._deletions)

    async def _output(
        self, call: Call, machine: str, blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        image, failed, window = "", False, b""
        async for block in blocks:
            window += block
            for match in _IMAGE.finditer(window):
                image = (match[1] or match[2]).decode()
            failed = failed or ERROR in window
            window = window[-LONGEST_FORM:]
            yield block
        if failed or not image:
            return
        try:
            await self._return_image(call, machine, image)
        except Refusal as refusal:
            yield error_line(refusal)

    async def _return_image(self, call: Call, machine: str, reference: str) -> None:
        """Copy the image of a build to the image host, and name it as the client requested."""
        identifier = await self.images.id_of(reference, machine)
        if not identifier:
            raise Refusal("The machine of the build has no image.", HTTPStatus.BAD_GATEWAY)
        names = [(name, identifier) for name in call.query.get("t", ())]
        await self.images.receive(machine, [identifier], names)

    async def _delete(self, machine: str) -> None:
        self.lines.forget(machine)
        try:
            await self.machines.delete(machine)
        except StockyardError as error:
            self.progress(f"machine {machine} could not be deleted: {error}")


async def begin(
    call: Call, client: Peer, docker: Peer, *, is_stream: bool = True
) -> Reply | AsyncIterator[bytes]:
    """Pass a call on to Docker in a machine of its own. Return the output, or a complete reply.

    :param is_stream: whether a successful answer comes in parts.
    :raises Refusal: if the request is badly framed, or Docker does not answer.
    """
    is_sent = await _send(call.request, client, docker)
    try:
        answer, headers = await read_answer(docker, call.method)
        if answer.status == HTTPStatus.OK and is_sent and is_stream:
            return payload(docker, answer.body, None)
        blocks = [block async for block in payload(docker, answer.body, LONGEST_ANSWER)]
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Refusal(
            "Docker in the machine of the call ended while it answered. Try again.",
            HTTPStatus.BAD_GATEWAY,
        ) from error
    return Reply(answer.status, b"".join(blocks), headers.get("content-type", JSON))


def error_line(refusal: Refusal) -> bytes:
    """Return the end of an output, for an error after Docker's own output."""
    error = {"errorDetail": {"message": str(refusal)}, "error": str(refusal)}
    return json.dumps(error).encode() + b"\r\n"


async def _send(request: Request, client: Peer, docker: Peer) -> bool:
    """Pass a request on. Return whether its whole body was sent: Docker can answer earlier.

    :raises Refusal: if the body is badly framed.
    """
    if b"\r\nexpect: 100-continue" in request.head.lower():
        await client.send(CONTINUE)
    blocks = payload(client, request.body, None)
    try:
        await _try_send(docker, request.head)
        async for block in blocks:
            chunk = b"%x\r\n%s\r\n" % (len(block), block) if request.body.chunked else block
            if not await _try_send(docker, chunk):
                return False
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise Refusal("The body of the request is badly framed.") from error
    return not request.body.chunked or await _try_send(docker, b"0" + LINE_END + LINE_END)


async def _try_send(docker: Peer, data: bytes) -> bool:
    try:
        await docker.send(data)
    except OSError:
        return False
    return True
