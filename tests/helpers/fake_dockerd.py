# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for dockerd in the machines of an endpoint: containers that echo what they read."""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stockyard.endpoint.machines import GONE, IMAGE_HOST, RUNNING, BoundSocket, Fork, Machine
from stockyard.endpoint.sizes import Demand
from stockyard.errors import Conflict, NotFound
from stockyard.guest.security.reader.streams import Peer, connect
from stockyard.model.host import SUSPENDED
from stockyard.model.size import Size
from tests.helpers.fake_volumes import FakeVolumes

VERSION = {"ApiVersion": "1.41", "Version": "20.10.24"}
# The ends of the paths of calls that create something: the answers have the status 201.
CREATIONS = ("/containers/create", "/exec", "/commit")


@dataclass
class FakeDockerd:
    """One dockerd.

    :param images: their names, each with its id.
    :param calls: the method and the path of each call.
    :param received: the head and the body of each call.
    :param is_silent: whether no call is answered.
    :param silent_paths: the paths of calls that are not answered.
    :param forged: the answers of a hostile program instead of Docker's, by method and path.
    :param refused_paths: the paths of calls that are answered by 500.
    :param heads: the heads of answers instead of Docker's, by path.
    :param claimed_names: further names of all images in an archive.
    """

    socket: Path
    images: dict[str, str] = field(default_factory=dict)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    networks: dict[str, str] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    execs: dict[str, str] = field(default_factory=dict)
    listeners: list[asyncio.StreamWriter] = field(default_factory=list)
    is_silent: bool = False
    silent_paths: list[str] = field(default_factory=list)
    refused_paths: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    forged: dict[str, Any] = field(default_factory=dict)
    claimed_names: tuple[str, ...] = ()
    server: asyncio.Server | None = None
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._accept, str(self.socket))

    async def stop(self) -> None:
        try:
            # A connection that was just accepted is incomplete for a moment.
            await asyncio.sleep(0.01)
        finally:
            if self.server:
                self.server.close()
        tasks = dict(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in tasks.values():
            # A task that was cancelled before it began has not closed its connection.
            writer.close()
        self.socket.unlink(missing_ok=True)

    def exit(self, identifier: str) -> None:
        """End a container; one that removes itself is removed."""
        container = self.containers[identifier]
        container["State"] = "exited"
        self._event("die", identifier, container["Name"], exitCode="0")
        if container["AutoRemove"]:
            self._remove(identifier)

    def reboot(self) -> None:
        """Do what dockerd does when it starts after a crash."""
        for identifier, container in list(self.containers.items()):
            if container["State"] == "running" and container["AutoRemove"]:
                del self.containers[identifier]
            elif container["State"] == "running":
                policy = container["HostConfig"].get("RestartPolicy") or {}
                container["State"] = "running" if policy.get("Name") == "always" else "exited"

    def _remove(self, identifier: str) -> None:
        name = self.containers.pop(identifier)["Name"]
        self._event("destroy", identifier, name)

    def _event(self, action: str, identifier: str, name: str, **attributes: str) -> None:
        actor = {"ID": identifier, "Attributes": {"name": name, **attributes}}
        event = {"Type": "container", "Action": action, "Actor": actor, "time": 1, "scope": "local"}
        self.send_events(json.dumps(event).encode() + b"\n")

    def send_events(self, text: bytes) -> None:
        """Send a text in the stream of events."""
        for listener in self.listeners:
            listener.write(b"%x\r\n%s\r\n" % (len(text), text))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks[task] = writer
        task.add_done_callback(lambda ended: self.tasks.pop(ended, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _protocol = head.partition("\r\n")[0].split(" ")
        headers = {
            line.partition(":")[0].lower(): line.partition(":")[2].strip()
            for line in head.split("\r\n")[1:]
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        parts = urlsplit(target)
        path = unquote(parts.path)
        # The authorization plugin of strict profiles refuses this.
        assert not re.search("%3a|%40", parts.path, re.IGNORECASE), parts.path
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        self.calls.append(f"{method} {path}")
        self.received.append(head + body.decode("latin-1"))
        await self._keep_silent(path)
        if path == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.listeners.append(writer)
            await reader.read()
            return False
        is_detached = b'"Detach": true' in body
        if path.endswith("/attach") or (
            path.endswith("/start") and "exec" in path and not is_detached
        ):
            return await self._echo(reader, writer)
        if path.endswith("/logs"):
            return await self._follow(reader, writer)
        if path.endswith("/wait"):
            return await self._wait(path.split("/")[2], writer)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        status, answer = self._result(method, path, query, body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        content = b"" if status == 204 else content
        answer_head = f"HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\n"
        answer_head += f"Content-Length: {len(content)}"
        writer.write(f"{self.heads.get(path, answer_head)}\r\n\r\n".encode() + content)
        await writer.drain()
        return True

    async def _keep_silent(self, path: str) -> None:
        if self.is_silent or path in self.silent_paths:
            await asyncio.Event().wait()

    async def _wait(self, reference: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        (container,) = (c for c in self.containers.values() if reference in (c["Name"], c["Id"]))
        while container["State"] != "exited":
            await asyncio.sleep(0.01)
        text = b'{"StatusCode":0}'
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))
        return True

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send the start of a log, which continues until the client ends."""
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nline\r\n")
        await reader.read()
        return False

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send the input back when it ends, as ``sort`` would."""
        writer.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        writer.write(b"read: " + await reader.read(-1))
        await writer.drain()
        return False

    def _result(
        self, method: str, path: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        login = {"Status": "Login Succeeded"}
        refused = (500, {"message": "refused"})
        simple = {"HEAD /_ping": "OK", "GET /_ping": "OK", "POST /auth": login} | self.forged
        if path in self.refused_paths or f"{method} {path}" in simple:
            status = 201 if method == "POST" and path.endswith(CREATIONS) else 200
            return refused if path in self.refused_paths else (status, simple[f"{method} {path}"])
        if path in ("/version", "/info"):
            facts = {"ID": "copied", "DockerRootDir": "/var/lib/docker"}
            return 200, VERSION | facts | {"Images": len(self.images)}
        if path == "/build/prune":
            return 200, {"CachesDeleted": None, "SpaceReclaimed": 0}
        if path == "/build":
            return self._build(query)
        if path == "/system/df":
            return 200, {"LayersSize": 1, "Volumes": [{"Name": name} for name in self.volumes]}
        answers = {
            "images": lambda: self._image(method, path.removeprefix("/images/"), query, body),
            "networks": lambda: self._network(method, parts[1:], body),
            "exec": lambda: self._exec(parts),
            "volumes": lambda: self._volume(method, parts[1:], body),
            "containers": lambda: self._container(method, parts[1:], query, body),
        }
        return answers[parts[0]]()

    def _network(self, method: str, parts: list[str], body: bytes) -> tuple[int, Any]:
        if parts == ["create"]:
            number = self.networks[json.loads(body)["Name"]] = secrets.token_hex(32)
            return 201, {"Id": number}
        if not parts:
            return 200, [
                {"Name": name, "Id": number, "Labels": {}, "Created": "2024-01-02T03:04:05.6Z"}
                for name, number in self.networks.items()
            ]
        names = [name for name, number in self.networks.items() if parts[0] in (name, number)]
        if not names:
            return 404, {"message": f"network {parts[0]} not found"}
        if method == "DELETE":
            del self.networks[names[0]]
            return 204, None
        if method == "POST":
            return 200, None
        entries = self.containers.values()
        running = dict.fromkeys(e["Id"] for e in entries if e["State"] == "running")
        facts = {"Name": names[0], "Id": self.networks[names[0]], "Driver": "bridge"}
        return 200, facts | {"Containers": running}

    def _volume(self, method: str, parts: list[str], body: bytes) -> tuple[int, Any]:
        if method == "DELETE":
            self.volumes.discard(parts[0])
            return 204, None
        self.volumes.add(name := json.loads(body)["Name"])
        return 201, {"Name": name}

    def _exec(self, parts: list[str]) -> tuple[int, Any]:
        if parts[2:] == ["start"]:
            return 200, b""
        facts = {"ID": parts[1], "ContainerID": self.execs.get(parts[1])}
        return (200, facts) if parts[1] in self.execs else (404, {"message": "No such exec"})

    def _change_images(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "load":
            return self._load(body)
        if path == "prune":
            used = {entry["Image"] for entry in self.containers.values()}
            self.images = {name: i for name, i in self.images.items() if i in used}
            return 200, {"ImagesDeleted": None, "SpaceReclaimed": 0}
        if path.endswith("/tag"):
            self.images[f"{query['repo']}:{query['tag']}"] = path.removesuffix("/tag")
            return 201, None
        if path.endswith("/push"):
            return 200, {"status": "pushed"}
        # An import has a source instead of an image.
        image = query.get("fromImage") or query["repo"]
        return self._pull(image, query.get("tag", ""))

    def _pull(self, image: str, tag: str) -> tuple[int, Any]:
        """Pull an image. No registry has one that is called missing, and the image that is called
        stable never changes.
        """
        if image.endswith("missing"):
            return 200, {"errorDetail": {"message": "not found"}, "error": "not found"}
        name, _at, digest = image.partition("@")
        last = name.rpartition("/")[2]
        if digest or ":" in tag:
            image = f"{name.removesuffix(':v1')}@{digest or tag}"
        elif tag:
            image = f"{image}:{tag}"
        elif "/" in name and ":" not in last:
            # Of all tags, the registry has one.
            image = f"{image}:latest"
        if not (image in self.images and image.startswith("stable")):
            self.images[image] = f"sha256:{secrets.token_hex(32)}"
        return 200, {"status": "done"}

    def _build(self, query: dict[str, str]) -> tuple[int, Any]:
        """Build an image; one of a remote context fails."""
        if "remote" in query:
            return 200, {"errorDetail": {"message": "no context"}, "error": "no context"}
        number = f"sha256:{secrets.token_hex(32)}"
        self.images[query.get("t", number)] = number
        return 200, {"stream": f"Successfully built {number[7:19]}\n"}

    def _archive(self, reference: str) -> bytes:
        """Return an archive of one image, with the names that a hostile machine gives it."""
        number = self.images.get(reference, reference)
        names = [name for name, known in self.images.items() if known == number != name]
        manifest = [{"Config": f"{number[7:]}.json", "RepoTags": [*names, *self.claimed_names]}]
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, text in {"manifest.json": json.dumps(manifest), "repositories": "{}"}.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        return file.getvalue()

    def _load(self, body: bytes) -> tuple[int, Any]:
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            text = archive.extractfile("manifest.json")
            assert text
            for entry in json.load(text):
                number = f"sha256:{entry['Config'].removesuffix('.json')}"
                self.images |= dict.fromkeys(entry["RepoTags"] or [number], number)
        return 200, {}

    def _image(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "json":
            return 200, [{"Id": number, "RepoTags": [name]} for name, number in self.images.items()]
        if path == "get":
            return 200, self._archive(query["names"])
        if method == "POST":
            return self._change_images(path, query, body)
        reference = path.removesuffix("/json")
        names = [name for name, number in self.images.items() if reference in (name, number)]
        names += [name for name in self.images if f"sha256:{reference}" == self.images[name][:19]]
        if not names:
            return 404, {"message": f"No such image: {reference}"}
        name = names[0]
        if method == "DELETE":
            del self.images[name]
            return 200, [{"Untagged": name}]
        facts: dict[str, Any] = {"Id": self.images[name], "RepoTags": [name]}
        if name == "exposing":
            facts["Config"] = {"ExposedPorts": {"5000/tcp": {}}}
        return 200, facts

    def _container(
        self, method: str, parts: list[str], query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        if parts == ["json"]:
            stopped_too = "all" in query or "limit" in query
            return 200, [
                dict(entry)
                for entry in self.containers.values()
                if stopped_too or entry["State"] == "running"
            ]
        if parts == ["prune"]:
            stopped = [c for c, entry in self.containers.items() if entry["State"] != "running"]
            if "stockyard" in query.get("filters", ""):
                stopped = [c for c in stopped if self.containers[c]["Labels"]]
            for identifier in stopped:
                self._remove(identifier)
            return 200, {"ContainersDeleted": stopped or None, "SpaceReclaimed": len(stopped)}
        if parts == ["create"]:
            return self._create(query.get("name", ""), json.loads(body))
        keys = [c for c, entry in self.containers.items() if parts[0] in (c, entry["Name"])]
        # A name such as db can also be the start of an id.
        keys += [c for c in self.containers if c.startswith(parts[0])]
        if not keys:
            return 404, {"message": f"No such container: {parts[0]}"}
        identifier = keys[0]
        return self._change(method, parts[1:], identifier, query, body)

    def _create(self, name: str, config: dict[str, Any]) -> tuple[int, Any]:
        identifiers = {number: number for number in self.images.values()} | self.images
        if config["Image"] not in identifiers:
            return 404, {"message": f"No such image: {config['Image']}"}
        if config.get("Cmd") == ["nonsense"]:
            return 400, {"message": "nonsense"}
        host = config.get("HostConfig") or {}
        sources = [str(bind).partition(":")[0] for bind in host.get("Binds") or ()]
        sources += [mount["Source"] for mount in host.get("Mounts") or ()]
        sources = [source for source in sources if not source.startswith("/")]
        if not self.volumes.issuperset(sources):
            return 500, {"message": f"a volume is missing: {sources}"}
        identifier = secrets.token_hex(32)
        self.containers[identifier] = {
            "Id": identifier,
            "Name": name,
            "Names": [f"/{name}"],
            "Image": identifiers[config["Image"]],
            "State": "created",
            "Config": config["Image"],
            "Labels": config.get("Labels") or {},
            "Created": time.time_ns(),
            "HostConfig": host,
            "AutoRemove": bool(host.get("AutoRemove")),
            "Mounts": [{"Type": "volume", "Name": source} for source in sources],
        }
        self._event("create", identifier, name)
        return 201, {"Id": identifier, "Warnings": []}

    def _change(
        self, method: str, parts: list[str], identifier: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        container = self.containers[identifier]
        if method == "DELETE":
            self._remove(identifier)
        elif parts == ["json"]:
            return 200, self._inspected(identifier)
        elif parts == ["rename"]:
            container |= {"Name": query["name"], "Names": [f"/{query['name']}"]}
        elif parts == ["exec"]:
            self.execs[number := secrets.token_hex(32)] = identifier
            return 201, {"Id": number}
        elif parts == ["update"]:
            container["HostConfig"] |= json.loads(body)
            return 200, {"Warnings": []}
        elif parts == ["stop"]:
            self.exit(identifier)
        else:
            container["State"] = "running"
            self._event(parts[0], identifier, container["Name"])
        return 204, None

    def _inspected(self, identifier: str) -> dict[str, Any]:
        container = self.containers[identifier]
        state = container["State"]
        return {
            "Id": identifier,
            "Name": f"/{container['Name']}",
            "Image": container["Image"],
            "Created": datetime.fromtimestamp(container["Created"] / 1e9, UTC).isoformat(),
            "Path": "sh",
            "Args": [],
            "State": {"Status": state, "Running": state == "running", "ExitCode": 0},
            "Config": {"Image": container["Config"], "Labels": container["Labels"]},
            "HostConfig": container["HostConfig"],
            "Mounts": container["Mounts"],
        }


class FakeMachines:
    """Machines that are fake daemons in one process.

    :param failures: raised by the next forks, resizes and suspensions.
    """

    def __init__(self, folder: Path, images: tuple[str, ...] = ("busybox",)) -> None:
        self.id, self.title = "ENDPOINT-ID", "doors"
        self.folder = folder
        self.host = FakeDockerd(
            folder / "host", {name: f"sha256:{secrets.token_hex(32)}" for name in images}
        )
        self.volumes = FakeVolumes()
        self.socket: BoundSocket | None = None
        self.opened_sockets: list[str] = []
        self.published: dict[str, frozenset[int]] = {}
        self.running: dict[str, FakeDockerd] = {}
        # The machines that do not run, by their state.
        self.stopped: dict[str, dict[str, FakeDockerd]] = {SUSPENDED: {}, "off": {}}
        self.generation: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.generations = 0
        self.forks: list[Fork] = []
        self.deleted: list[str] = []
        # The machines that were noted as needed.
        self.kept: list[str] = []
        self.facts: dict[str, dict[str, str]] = {}
        self.saved: dict[str, str] = {}
        self.demands: dict[str, Demand] = {}
        self.size = Size()
        self.is_trusted = True
        self.failures: list[Exception] = []

    async def all(self) -> list[Machine]:
        names = [f"machine-{number + 1}" for number in range(len(self.forks))]
        return [
            Machine(
                name, self.facts.get(name, {}), await self.state(name), self.saved.get(name, "")
            )
            for name in names
            if name not in self.deleted
        ]

    async def keep(self, name: str) -> bool:
        self.kept.append(name)
        return name in self.running

    async def open_socket(self, name: str) -> None:
        self.opened_sockets.append(name)

    async def note(self, name: str, facts: Mapping[str, str], containers: str) -> None:
        self.facts[name] = dict(facts)
        self.saved[name] = containers

    async def resize(self, name: str, demand: Demand) -> None:
        if self.failures:
            raise self.failures.pop()
        self.demands[name] = demand

    async def capacity(self) -> Size:
        return self.size

    async def suspend(self, name: str) -> None:
        if self.failures:
            raise self.failures.pop()
        await self._stop(name, SUSPENDED)

    async def kill(self, name: str) -> None:
        """End a machine as a crash does."""
        await self._stop(name, "off")

    async def wake(self, name: str) -> None:
        for state, daemons in self.stopped.items():
            if name in daemons:
                daemon = self.running[name] = daemons.pop(name)
                if state == "off":
                    daemon.reboot()
                await daemon.start()
                return
        raise NotFound("the machine does not exist.")

    async def _stop(self, name: str, state: str) -> None:
        daemon = self.stopped[state][name] = self.running.pop(name)
        await daemon.stop()

    def ports(self, name: str) -> frozenset[int]:
        return self.published.get(name, frozenset())

    async def set_ports(self, name: str, ports: frozenset[int]) -> None:
        for machine, used_ports in self.published.items():
            if machine != name and ports & used_ports:
                raise Conflict(f"port {min(ports & used_ports)} cannot be published.")
        self.published[name] = ports

    def bindings(self, name: str) -> dict[str, Any]:
        """Return the published ports of the only container of a machine, as Docker got them."""
        (container,) = self.running[name].containers.values()
        return dict(container["HostConfig"]["PortBindings"])

    async def builds_apart(self) -> bool:
        return not self.is_trusted

    async def renew_generation(self) -> None:
        self.generations += 1
        self.generation = dict(self.host.images)
        self.networks = dict(self.host.networks)

    def free_port(self, ports: Iterable[int]) -> int:
        published_ports = frozenset().union(*self.published.values())
        for port in ports:
            if port not in published_ports:
                return port or 30000 + len(self.forks)
        raise OSError("none is free")

    async def fork(self, request: Fork) -> Machine:
        if self.failures:
            raise self.failures.pop()
        self.forks.append(request)
        name = f"machine-{len(self.forks)}"
        await asyncio.sleep(0.01)
        self.published[name] = frozenset(request.ports)
        self.running[name] = FakeDockerd(self.folder / name, dict(self.generation))
        self.running[name].networks = dict(self.networks)
        await self.running[name].start()
        return Machine(name)

    async def delete(self, name: str) -> None:
        self.deleted.append(name)
        for daemons in self.stopped.values():
            daemons.pop(name, None)
        for volume, (machine, _path) in list(self.volumes.attached.items()):
            if machine == name:
                await asyncio.sleep(0.05)
                del self.volumes.attached[volume]
        self.published.pop(name, None)
        if name in self.running:
            await self.running.pop(name).stop()

    async def state(self, name: str) -> str:
        states = [state for state, daemons in self.stopped.items() if name in daemons]
        return RUNNING if name in self.running else states[0] if states else GONE

    async def connect(self, name: str) -> Peer:
        if name != IMAGE_HOST and name not in self.running:
            raise ConnectionError(name)
        daemon = self.host if name == IMAGE_HOST else self.running[name]
        return await connect(str(daemon.socket))

    async def close(self) -> None:
        for daemon in (self.host, *self.running.values()):
            await daemon.stop()
