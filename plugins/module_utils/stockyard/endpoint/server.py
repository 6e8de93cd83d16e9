# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of an endpoint: reads calls, and answers each one or passes it to a machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from ..guest.security.reader.exchange import LINGER, Exchange
from ..guest.security.reader.grammar import (
    HEAD_END,
    LINE_END,
    NO_BODY,
    Refusal,
    Request,
)
from ..guest.security.reader.streams import LIMIT, Peer, Stream
from .answer_heads import AnswerCheck
from .answers import answer
from .build_streams import BuildStreams, ObservedPeer
from .builds import Builds
from .calls import (
    Call,
    Reply,
    encode_reply,
    error_reply,
    fetches_archive,
    json_reply,
    parse_call,
    with_path,
    with_query,
)
from .container_calls import ContainerCalls
from .containers import Containers
from .events import EventBus
from .heads import parse_head, read_head
from .images import ImageHost
from .lines import Lines, payload, silence
from .machine_life import MachineLife
from .machines import IMAGE_HOST, Machines
from .merged_calls import MergedCalls
from .networks import BUILDKIT, Networks
from .passwords import has_password, without_passwords
from .ports import Ports
from .registry_calls import RegistryCalls
from .routes import CONTAINER, EXEC, HANDLED, Match, Route, find
from .snapshots import Snapshots
from .spares import Spares
from .volume_calls import VolumeCalls
from .volumes import Volumes
from .wait_call import WaitCall

BACKLOG = 4096
# Seconds between two requests, and for a head after its first byte.
IDLE, HEAD = 43200.0, 60.0
# The longest body of a call that the endpoint answers itself.
LONGEST_BODY = 1 << 22
# Handlers whose reply comes in parts.
_STREAMS = ("events", "wait")
Handler = Callable[[Call, str, bytes], Awaitable[Reply]]


class BrokenStream(Exception):
    """A reply in parts that ended before its last part. The connection must be closed."""


class Endpoint:
    """One endpoint.

    :param progress: receives a line for each failure that no client is told.
    :param spares: the number of machines that are forked before a container needs them.
    """

    def __init__(
        self, machines: Machines, progress: Callable[[str], None], spares: int = 0
    ) -> None:
        self.machines = machines
        self.progress = progress
        self.lines = Lines(machines)
        self.containers = Containers()
        self.bus = EventBus()
        snapshots = Snapshots()
        self.images = ImageHost(machines, self.lines, self.containers, snapshots)
        self.life = MachineLife(
            machines, self.lines, self.containers, snapshots, self.bus, progress
        )
        self.networks = Networks(self.lines, self.containers, self.images, self.life)
        self.volumes = Volumes(machines.volumes, self.lines, self.containers, self.life)
        self.ports = Ports(machines, self.lines, self.containers, self.life)
        self.spares = Spares(machines, self.images, self.life, spares, progress)
        self.builds = Builds(machines, self.lines, self.images, self.spares, progress)
        self.registries = RegistryCalls(self.lines, self.images, self.builds)
        self.calls = ContainerCalls(
            self.lines,
            self.containers,
            self.images,
            self.life,
            self.networks,
            self.volumes,
            self.ports,
            self.spares,
        )
        self.volume_calls = VolumeCalls(self.volumes)
        self.merged = MergedCalls(machines, self.lines, self.life, self.bus, self.volume_calls)
        self.newest = (0, 0)
        self.headers: dict[str, str] = {}
        # asyncio itself keeps no reference to a task whose connection is lost.
        self._clients: set[asyncio.Task[None] | None] = set()
        self._image_events: asyncio.Task[None] | None = None
        self._handlers: dict[str, Handler] = {
            "ping": self._ping,
            "info": lambda call, _reference, _body: self.merged.info(call),
            "disk_usage": lambda call, _reference, _body: self.merged.disk_usage(call),
            "list_containers": lambda call, _reference, _body: self.merged.list_containers(call),
            "prune_containers": lambda call, _reference, _body: self.merged.prune_containers(call),
            "create": lambda call, _reference, body: self.calls.create(call, body),
            "rename": lambda call, reference, _body: self.calls.change_name(call, reference),
            "remove": lambda call, reference, _body: self.calls.remove(call, reference),
            "create_exec": self.calls.create_exec,
            "update": self.calls.update,
            "commit": self._commit,
            "prune_images": lambda call, _reference, _body: self.images.prune(call),
            "remove_image": lambda call, reference, _body: self.images.remove(call, reference),
            "leave_swarm": _leave_swarm,
            "list_volumes": lambda call, _reference, _body: self.volume_calls.list_all(call),
            "create_volume": lambda call, _reference, body: self.volume_calls.create(call, body),
            "inspect_volume": lambda call, reference, _body: self.volume_calls.inspect(
                call, reference
            ),
            "remove_volume": lambda call, reference, _body: self.volume_calls.remove(
                call, reference
            ),
            "prune_volumes": lambda call, _reference, _body: self.volume_calls.prune(call),
            "create_network": lambda call, _reference, body: self.networks.create(call, body),
            "inspect_network": lambda call, reference, _body: self.networks.inspect(
                call, reference
            ),
            "remove_network": lambda call, reference, _body: self.networks.remove(call, reference),
            "connect_network": self.networks.connect,
            "disconnect_network": self.networks.disconnect,
            "prune_networks": lambda call, _reference, _body: self.networks.prune(call),
        }

    async def start(self) -> None:
        """Find the containers of an earlier run, and the versions of the API.

        :raises Refusal: if Docker in the image host does not answer.
        """
        version = (await self.lines.ask(IMAGE_HOST, "GET", "/version")).json()
        major, minor = str(version["ApiVersion"]).split(".")
        self.newest = (int(major), int(minor))
        self.headers = {
            "Api-Version": str(version["ApiVersion"]),
            "Docker-Experimental": "false",
            "Ostype": "linux",
            "Server": f"Docker/{version['Version']} (linux)",
        }
        await self.images.remove_placeholders()
        await self.life.load()
        await self.volumes.load()
        self.spares.start()
        self._image_events = asyncio.create_task(self._watch_images())

    async def close(self) -> None:
        """End the work of the endpoint. The machines of containers stay."""
        tasks = [task for task in (self._image_events, *self._clients) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.spares.close()
        await self.volumes.close()
        await self.ports.close()
        await self.life.close()
        await self.builds.close()
        self.lines.close()
        await self.machines.close()

    async def listen(self, path: Path) -> asyncio.Server:
        """Serve a Unix socket, which only this user can open."""
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.StreamReaderProtocol:
            reader = Stream(LIMIT, loop)
            return asyncio.StreamReaderProtocol(
                reader, lambda _reader, writer: self.serve(Peer(reader, writer)), loop=loop
            )

        return await loop.create_unix_server(accept, sock=_bind(path), backlog=BACKLOG)

    async def serve(self, client: Peer) -> None:
        """Serve one client until either end hangs up."""
        task = asyncio.current_task()
        self._clients.add(task)
        try:
            while raw := await _read_head(client.reader):
                if not await self._answer(client, parse_head(raw)):
                    await _hang_up(client)
                    return
        except Refusal as refusal:
            # The start of the next request is unknown.
            with contextlib.suppress(OSError):
                await self._send(client, error_reply(refusal), close=True)
                await _hang_up(client)
        except (OSError, EOFError, TimeoutError):
            pass  # the client disconnected, or is too slow
        finally:
            self._clients.discard(task)
            client.writer.close()

    async def _answer(self, client: Peer, request: Request) -> bool:
        """Answer one request. Return whether another one may follow."""
        try:
            call = parse_call(request, self.newest)
            match = find(call.method, call.path)
            if fetches_archive(call) and await self.machines.builds_apart():
                raise Refusal(
                    "fromSrc must be -: Docker would fetch the archive from the image host's own "
                    "network. Download the archive, and use docker import FILE.",
                    HTTPStatus.FORBIDDEN,
                )
            if "@" in match.reference and match.route.pattern.startswith("/images/"):
                call = with_path(call, await self._image_path(call, match))
                match = find(call.method, call.path)
        except Refusal as refusal:
            return await self._refuse(client, request, refusal)
        is_import = bool(call.value("fromSrc")) and not call.value("fromImage")
        if match.route.registry and has_password(call) and not is_import:
            return await self._answer_apart(client, call, self.registries.answer(call, client))
        if match.route.kind == HANDLED:
            return await self._handle(client, call, match)
        if match.route.builds:
            return await self._build(client, call, match)
        return await self._route(client, call, match)

    async def _route(self, client: Peer, call: Call, match: Match) -> bool:
        """Pass a call on to a machine."""
        request = without_passwords(call.request)
        async with contextlib.AsyncExitStack() as stack:
            try:
                machine = await self._machine(match)
                if match.route.changes_host:
                    await stack.enter_async_context(self.images.changing(match.route.builds))
                line = await self._line(stack, call, match, machine)
            except Refusal as refusal:
                return await self._refuse(client, request, refusal)
            if isinstance(line, Reply):
                return await self._reply_unread(client, request, line)
            try:
                return await self._pass(client, request, match.route, machine, line)
            except Refusal:
                reply = await self._answer_lost(call, match, machine)
                if reply is None:
                    raise
            return await self._reply_unread(client, request, reply)

    async def _build(self, client: Peer, call: Call, match: Match) -> bool:
        """Answer the call for a build, in a machine of its own or in that of the containers that
        it must reach; else on the image host.
        """
        if call.value("version") != BUILDKIT:
            # Clients do not see the containers of a build, and cannot remove them.
            call = with_query(call, rm="1", forcerm="1")
        try:
            machine, call = await self.networks.machine_of_build(call)
        except Refusal as refusal:
            return await self._refuse(client, call.request, refusal)
        if not machine and not await self._builds_apart(call):
            return await self._route(client, call, match)
        return await self._answer_apart(client, call, self._builder(client, call, machine))

    async def _builds_apart(self, call: Call) -> bool:
        """Return whether a build needs a machine of its own. Clients send no password with a build
        by BuildKit: it asks them through its session.
        """
        has_secret = call.value("version") != BUILDKIT and has_password(call)
        return has_secret or await self.machines.builds_apart()

    async def _answer_apart(
        self,
        client: Peer,
        call: Call,
        answering: contextlib.AbstractAsyncContextManager[Reply | AsyncIterator[bytes]],
    ) -> bool:
        """Answer a call that runs in another machine than the image host.

        :param answering: the context in which the machine exists.
        """
        try:
            async with answering as reply:
                if not isinstance(reply, Reply):
                    return await self._stream(client, reply) and not call.request.close
        except Refusal as refusal:
            reply = error_reply(refusal)
        except BrokenStream:
            return False
        return await self._reply_unread(client, call.request, reply)

    @contextlib.asynccontextmanager
    async def _builder(
        self, client: Peer, call: Call, machine: str
    ) -> AsyncIterator[Reply | AsyncIterator[bytes]]:
        """Build in a machine of containers, or in a new one without a name."""
        if not machine:
            async with self.builds.build(call, client) as reply:
                yield reply
        else:
            async with (
                self.life.use(machine),
                self.builds.build_in(call, client, machine) as reply,
            ):
                yield reply

    async def _line(
        self, stack: contextlib.AsyncExitStack, call: Call, match: Match, machine: str
    ) -> Peer | Reply:
        """Return a line to a machine, which runs until the end of the stack; or the reply to a call
        about a container whose machine does not run, if the call does not need it.
        """
        if reply := self._answer_down(call, match):
            return reply
        await self._use(stack, match, machine)
        try:
            return await self.lines.take(machine)
        except Refusal:
            if machine == IMAGE_HOST or not await self.life.is_lost(machine):
                raise
        # The machine ended a moment ago.
        if reply := self._answer_down(call, match):
            return reply
        await self._use(stack, match, machine)
        return await self.lines.take(machine)

    async def _use(self, stack: contextlib.AsyncExitStack, match: Match, machine: str) -> None:
        """Let a machine run, with the volumes that the call needs, until the end of the stack."""
        await stack.enter_async_context(self.life.use(machine))
        if match.route.uses_volumes:
            container = self.containers.find(match.reference)
            await stack.enter_async_context(self.volumes.in_machine(container))
            await self.calls.socket.open_for(container)

    def _answer_down(self, call: Call, match: Match) -> Reply | None:
        if match.route.kind != CONTAINER:
            return None
        container = self.containers.find(match.reference)
        if self.life.power.is_up(container.machine):
            return None
        return answer(call, match.reference, self.life.facts(container))

    async def _answer_lost(self, call: Call, match: Match, machine: str) -> Reply | None:
        """Return the reply to a call about a container whose machine ended before Docker replied;
        ``None`` if the machine did not end, or if the call needs it.
        """
        if match.route.kind != CONTAINER or call.request.body != NO_BODY:
            return None
        return self._answer_down(call, match) if await self.life.has_ended(machine) else None

    async def _image_path(self, call: Call, match: Match) -> str:
        """Return the path of a call about an image, with its name in the image host."""
        head, _reference, tail = match.route.pattern.partition("{}")
        return f"{head}{await self.images.stored_name(match.reference)}{tail}"

    async def _machine(self, match: Match) -> str:
        if match.route.kind == CONTAINER:
            return self.containers.find(match.reference).machine
        if match.route.kind == EXEC:
            return await self.calls.machine_of_exec(match.reference)
        return IMAGE_HOST

    async def _pass(
        self, client: Peer, request: Request, route: Route, machine: str, docker: Peer
    ) -> bool:
        # Images change whenever a build in the connection ends.
        streams = BuildStreams(lambda: self.images.changing(builds=True))
        if route.builds_in_streams:
            client, docker = streams.client(client), streams.docker(docker)
        reusable = False
        timeout = asyncio.timeout(self.lines.patience if route.is_quick else None)
        try:
            async with timeout:
                observed = ObservedPeer(client, AnswerCheck(timeout, client).observe)
                reusable = await Exchange(observed, docker, request).run()
            return reusable
        except TimeoutError as error:
            if timeout.expired():
                raise silence(machine, self.lines.patience) from error
            raise
        finally:
            await streams.close()
            # When the client has ended, so has the sending side of the line.
            if reusable and not client.reader.at_eof():
                self.lines.give(machine, docker)
            else:
                docker.abort()

    async def _handle(self, client: Peer, call: Call, match: Match) -> bool:
        body = await _read_body(client, call.request)
        try:
            if match.route.handler in _STREAMS:
                return await self._handle_stream(client, call, match)
            handler = self._handlers[match.route.handler]
            if match.route.changes_host:
                async with self.images.changing(match.route.builds):
                    reply = await handler(call, match.reference, body)
            else:
                reply = await handler(call, match.reference, body)
        except Refusal as refusal:
            reply = error_reply(refusal)
        except BrokenStream:
            return False
        except Exception as error:  # noqa: BLE001  # one call must not end the service of others
            self.progress(f"{call.method} {call.path}: {error!r}")
            reply = json_reply({"message": "the endpoint failed"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        return await self._send_all(client, call, reply)

    async def _handle_stream(self, client: Peer, call: Call, match: Match) -> bool:
        """Answer a call whose reply comes in parts.

        :raises Refusal: if nothing was sent yet.
        :raises BrokenStream: if the reply is not complete.
        """
        if match.route.handler == "events":
            return await self._stream(client, self.merged.events(call))
        container = self.containers.find(match.reference)
        if not self.life.power.is_up(container.machine):
            known_result = answer(call, match.reference, self.life.facts(container))
            if known_result:
                return await self._send_all(client, call, known_result)
        waiting = WaitCall(self.lines, self.life, container)
        async with self.life.use(container.machine):
            try:
                reply = await waiting.begin(call)
                if isinstance(reply, Reply):
                    return await self._send_all(client, call, reply)
                return await self._stream(client, reply)
            finally:
                waiting.end()

    async def _send_all(self, client: Peer, call: Call, reply: Reply) -> bool:
        close = call.request.close
        await self._send(client, reply, close=close, bodiless=call.method == "HEAD")
        return not close

    async def _refuse(self, client: Peer, request: Request, refusal: Refusal) -> bool:
        """Refuse a request whose body was not read."""
        return await self._reply_unread(client, request, error_reply(refusal))

    async def _reply_unread(self, client: Peer, request: Request, reply: Reply) -> bool:
        """Reply to a request whose body was not read."""
        close = request.close or request.body != NO_BODY
        await self._send(client, reply, close=close, bodiless=request.method == b"HEAD")
        return not close

    async def _send(
        self, client: Peer, reply: Reply, *, close: bool, bodiless: bool = False
    ) -> None:
        await client.send(encode_reply(reply, self.headers, close=close, bodiless=bodiless))

    async def _stream(self, client: Peer, blocks: AsyncIterator[bytes]) -> bool:
        """Send a stream in chunks, until it or the client ends."""
        fields = {
            **self.headers,
            "Content-Type": "application/json",
            "Transfer-Encoding": "chunked",
        }
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields.items())]
        await client.send(LINE_END.join(map(str.encode, lines)) + HEAD_END)
        sending = asyncio.create_task(_send_chunks(client, blocks))
        disconnected = asyncio.Event()
        client.reader.on_eof = disconnected.set
        if client.reader.at_eof():
            disconnected.set()
        waiting = asyncio.create_task(disconnected.wait())
        try:
            await asyncio.wait((sending, waiting), return_when=asyncio.FIRST_COMPLETED)
            complete = sending.done()
            if complete:
                sending.result()
                await client.send(b"0\r\n\r\n")
            return complete
        except (OSError, EOFError, ValueError) as error:
            raise BrokenStream from error
        finally:
            client.reader.on_eof = None
            sending.cancel()
            waiting.cancel()

    async def _ping(self, _call: Call, _reference: str, _body: bytes) -> Reply:
        headers = {"Builder-Version": "1", "Cache-Control": "no-cache, no-store, must-revalidate"}
        return Reply(HTTPStatus.OK, b"OK", "text/plain; charset=utf-8", headers)

    async def _commit(self, call: Call, _reference: str, body: bytes) -> Reply:
        machine = self.containers.find(call.value("container")).machine
        async with self.life.use(machine):
            return await self.images.commit(call, body)

    async def _watch_images(self) -> None:
        """Pass the events of the image host on."""
        while True:
            with contextlib.suppress(Refusal):
                async for event in self.lines.events(IMAGE_HOST):
                    # Containers of a build are not containers of clients.
                    if event.get("Type") in ("image", "network"):
                        self.bus.publish(event)
            await asyncio.sleep(1.0)


def _bind(path: Path) -> socket.socket:
    """Return a Unix socket that only this user can open. A socket of an earlier run is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The file gets the mode of the socket. A umask would apply to files of other threads, too.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    return listener


async def _leave_swarm(_call: Call, _reference: str, _body: bytes) -> Reply:
    raise Refusal("This node is not part of a swarm", HTTPStatus.SERVICE_UNAVAILABLE)


async def _send_chunks(client: Peer, blocks: AsyncIterator[bytes]) -> None:
    async for block in blocks:
        await client.send(b"%x\r\n%s\r\n" % (len(block), block))


async def _read_head(reader: Stream) -> bytes:
    """Return the next head, empty at the end of the connection.

    :raises Refusal: if the head is too long.
    """
    try:
        async with asyncio.timeout(IDLE) as patience:
            first_byte = await reader.read(1)
            if not first_byte:
                return b""
            patience.reschedule(asyncio.get_running_loop().time() + HEAD)
            return await read_head(reader, first_byte)
    except asyncio.LimitOverrunError as error:
        raise Refusal(
            f"The head of the request is longer than {LIMIT} bytes.",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ) from error


async def _read_body(client: Peer, request: Request) -> bytes:
    """Return the body of a request.

    :raises Refusal: if the body is too long or badly framed.
    """
    if request.body == NO_BODY:
        return b""
    if (request.body.length or 0) > LONGEST_BODY:
        raise Refusal(
            f"The body of the request is longer than {LONGEST_BODY} bytes.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    if b"\r\nexpect: 100-continue" in request.head.lower():
        await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(HEAD):
            return b"".join([block async for block in payload(client, request.body, LONGEST_BODY)])
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise Refusal(
            f"The body of the request is badly framed, or longer than {LONGEST_BODY} bytes.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ) from error


async def _hang_up(client: Peer) -> None:
    """Close a connection after the client has read its answer: if unread bytes remain at the close,
    the client loses the answer.
    """
    client.end()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER):
            while await client.reader.read(LIMIT):
                pass
