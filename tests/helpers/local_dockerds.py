# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint whose machines are dockerds on this computer, each in namespaces of its own.

It serves real clients in seconds, where no virtual machine can run. It needs root, and a directory
with the unpacked packages docker.io, containerd, runc and tini of Debian:

  python -m tests.helpers.local_dockerds --root ROOT --work WORK --unix SOCKET

``WORK`` keeps the image host. A second run finds its images, but no containers. ``--egress`` names
the address that the machines reach at 10.0.2.15:3128, as guests reach their proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from stockyard.endpoint.docker_socket import USUAL_PATHS
from stockyard.endpoint.machines import GONE, IMAGE_HOST, RUNNING, BoundSocket, Fork, Machine
from stockyard.endpoint.server import Endpoint
from stockyard.endpoint.sizes import Demand
from stockyard.errors import Conflict, NotFound, OperationRefused
from stockyard.guest.security.reader.streams import Peer, connect
from stockyard.model.size import Size
from tests.helpers.fake_volumes import FakeVolumes

_NEW_NETWORK = 0x40000000
# Seconds in which dockerd starts or ends.
PATIENCE = 60.0
# Where a machine reaches the address of its egress.
_PROXY = ("10.0.2.15", 3128)
_ISOLATED = ("unshare", "-m", "-n", "--propagation", "private")


class LocalVolumes(FakeVolumes):
    """Named volumes that are directories, mounted into the namespaces of a dockerd."""

    def __init__(self, machines: LocalMachines) -> None:
        super().__init__()
        self.machines = machines

    async def create(self, name: str, labels: Mapping[str, str]) -> None:
        await super().create(name, labels)
        self._data(name).mkdir(parents=True, exist_ok=True)

    async def delete(self, name: str) -> None:
        await super().delete(name)
        shutil.rmtree(self._data(name), ignore_errors=True)

    async def allocated(self, name: str) -> int:
        return sum(path.stat().st_blocks * 512 for path in self._data(name).rglob("*"))

    async def attach(self, name: str, machine: str, path: str) -> None:
        await super().attach(name, machine, path)
        await self.machines.enter(machine, "mkdir", "-p", path)
        await self.machines.enter(machine, "mount", "--bind", str(self._data(name)), path)

    async def detach(self, name: str) -> None:
        machine, path = self.attached.get(name, ("", ""))
        if machine:
            await self.machines.enter(machine, "umount", path)
            await super().detach(name)

    def _data(self, name: str) -> Path:
        return self.machines.work / "volumes" / name


class LocalMachines:
    """Machines that are dockerds.

    :param root: the unpacked packages.
    :param work: the directory of all data.
    :param path: the socket of the endpoint.
    :param egress: the address that the machines reach.
    """

    def __init__(
        self, root: Path, work: Path, path: Path, egress: tuple[str, int] | None = None
    ) -> None:
        self.socket = BoundSocket(USUAL_PATHS, str(path))
        self.id, self.title = "LOCAL-DOCKERDS", "doors"
        self.root, self.work = root, work
        self.egress = egress
        self.volumes = LocalVolumes(self)
        self.facts: dict[str, dict[str, str]] = {}
        self.saved: dict[str, str] = {}
        self._daemons: dict[str, asyncio.subprocess.Process] = {}
        self._forwards: dict[str, dict[int, Forward]] = {}
        self._generations: list[Path] = []

    async def start(self) -> None:
        """Start the image host, and delete what an earlier run left."""
        for name in ("machines", "volumes"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        await self._boot(IMAGE_HOST)

    async def stop(self) -> None:
        """Delete all machines, and stop the image host."""
        for name in list(self.facts):
            await self.delete(name)
        await self._halt(IMAGE_HOST)
        for generation in self._generations:
            await _run("rm", "-rf", str(generation))

    async def all(self) -> list[Machine]:
        return [
            Machine(name, facts, await self.state(name), self.saved.get(name, ""))
            for name, facts in self.facts.items()
        ]

    async def builds_apart(self) -> bool:
        return False

    async def renew_generation(self) -> None:
        generation = self.work / f"generation-{secrets.token_hex(3)}"
        await self._copy(self._data(IMAGE_HOST), generation)
        # A branch has the containers of the image host too; here they would be started twice.
        shutil.rmtree(generation / "containers", ignore_errors=True)
        # Forks of the last but one have ended.
        self._generations.append(generation)
        for old in self._generations[:-2]:
            await _run("rm", "-rf", str(old))
        del self._generations[:-2]

    def free_port(self, ports: Iterable[int]) -> int:
        for port in ports:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
        raise OSError("none is free")

    async def fork(self, request: Fork) -> Machine:
        name = f"vm{secrets.token_hex(3)}"
        self.facts[name] = {}
        await self._copy(self._generations[-1], self._data(name))
        await self._boot(name)
        await self.set_ports(name, frozenset(request.ports))
        return Machine(name)

    async def keep(self, name: str) -> bool:
        return name in self.facts

    async def open_socket(self, name: str) -> None:
        """Do nothing: the machines have the files of this computer."""

    async def note(self, name: str, facts: Mapping[str, str], containers: str) -> None:
        if name in self.facts:
            self.facts[name] |= facts
            self.saved[name] = containers

    async def resize(self, name: str, demand: Demand) -> None:
        """Do nothing: a dockerd here has the whole computer."""

    async def capacity(self) -> Size:
        return Size()

    async def suspend(self, name: str) -> None:
        await self._halt(name)

    async def wake(self, name: str) -> None:
        if name not in self.facts:
            raise NotFound("the machine does not exist.")
        await self._boot(name)
        # The old forwards lead to the network that ended.
        ports = self.ports(name)
        await self.set_ports(name, frozenset())
        await self.set_ports(name, ports)
        for volume, (machine, path) in list(self.volumes.attached.items()):
            if machine == name:
                del self.volumes.attached[volume]
                await self.volumes.attach(volume, name, path)

    def ports(self, name: str) -> frozenset[int]:
        return frozenset(self._forwards.get(name, {}))

    async def set_ports(self, name: str, ports: frozenset[int]) -> None:
        forwards = self._forwards.setdefault(name, {})
        for port in set(forwards) - ports:
            forwards.pop(port).close()
        for port in ports - set(forwards):
            try:
                forwards[port] = Forward(port, self._daemons[name].pid)
            except OSError as error:
                raise Conflict(f"port {port} cannot be published: {error}") from error

    async def delete(self, name: str) -> None:
        for forward in self._forwards.pop(name, {}).values():
            forward.close()
        for volume, (machine, _path) in list(self.volumes.attached.items()):
            if machine == name:
                # The mount ends with the namespace.
                del self.volumes.attached[volume]
        await self._halt(name)
        self.facts.pop(name, None)
        await _run("rm", "-rf", str(self._home(name)))

    async def state(self, name: str) -> str:
        if name not in self.facts:
            return GONE
        daemon = self._daemons.get(name)
        return RUNNING if daemon and daemon.returncode is None else "off"

    async def connect(self, name: str) -> Peer:
        return await connect(str(self._home(name) / "docker.sock"))

    async def close(self) -> None:
        """Keep the generation."""

    async def enter(self, machine: str, *command: str) -> None:
        """Run a program in the mount namespace of a machine."""
        await _run("nsenter", "-t", str(self._daemons[machine].pid), "-m", *command)

    def _home(self, name: str) -> Path:
        return self.work / ("image-host" if name == IMAGE_HOST else f"machines/{name}")

    def _data(self, name: str) -> Path:
        return self._home(name) / "data"

    async def _copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        await _run("cp", "-a", "--reflink=auto", str(source), str(target))

    async def _boot(self, name: str) -> None:
        home = self._home(name)
        (home / "run").mkdir(parents=True, exist_ok=True)
        sock = home / "docker.sock"
        sock.unlink(missing_ok=True)
        (home / "pid").unlink(missing_ok=True)
        path = f"{self.root}/usr/sbin:{self.root}/usr/bin:{os.environ['PATH']}"
        options = ["--host", f"unix://{sock}", "--data-root", f"{home}/data"]
        options += ["--exec-root", f"{home}/run", "--pidfile", f"{home}/pid"]
        options += ["--iptables=false", "--ip6tables=false", "--storage-driver", "vfs"]
        options += ["--exec-opt", "native.cgroupdriver=cgroupfs"]
        # Published ports lead to the loopback.
        script = f'ip link set lo up; ip address add {_PROXY[0]}/32 dev lo; exec "$@"'
        with (home / "log").open("ab") as log:
            self._daemons[name] = await asyncio.create_subprocess_exec(
                *(*_ISOLATED, "bash", "-c", script, "dockerd", "dockerd", *options),
                env={**os.environ, "PATH": path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    (await connect(str(sock))).abort()
                    break
                await asyncio.sleep(0.05)
        if self.egress:
            _open_egress(self._daemons[name].pid, self.egress)

    async def _halt(self, name: str) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None or daemon.returncode is not None:
            return
        daemon.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await daemon.wait()
        except TimeoutError:
            daemon.kill()
            await daemon.wait()


class Forward:
    """A port of this computer that leads to the same port in the network of a machine.

    :param pid: a process of the machine.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            self._listener = socket.create_server(("127.0.0.1", port))
        except OSError:
            os.close(self._network)
            raise
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Publish the port no longer."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.close(self._network)

    def _accept(self) -> None:
        # Sockets of this thread are in the network of the machine from here on.
        if ctypes.CDLL(None, use_errno=True).setns(self._network, _NEW_NETWORK):
            return
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            _join(client, ("127.0.0.1", self.port))


def _open_egress(pid: int, address: tuple[str, int]) -> None:
    """Lead connections in the network of a process to an address of this computer, until the
    process ends.
    """
    listeners: list[socket.socket] = []

    def listen() -> None:
        with open(f"/proc/{pid}/ns/net", "rb") as network:
            if not ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _NEW_NETWORK):
                listeners.append(socket.create_server(_PROXY))

    def accept() -> None:
        while os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(TimeoutError):
                _join(listeners[0].accept()[0], address)
        listeners[0].close()

    # Only this thread is in the network of the process.
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    listeners[0].settimeout(1)
    threading.Thread(target=accept, daemon=True).start()


def _join(client: socket.socket, address: tuple[str, int]) -> None:
    """Connect a client with an address, reached from the network of this thread."""
    try:
        server = socket.create_connection(address, PATIENCE)
    except OSError:
        client.close()
        return
    for end in (client, server):
        end.settimeout(None)
    for source, target in ((client, server), (server, client)):
        threading.Thread(target=_copy_stream, args=(source, target), daemon=True).start()


def _copy_stream(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(1 << 16):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise OperationRefused(f"{' '.join(command)} failed.")


async def _serve(root: Path, work: Path, path: Path, egress: str) -> None:
    host, _colon, port = egress.rpartition(":")
    machines = LocalMachines(root, work, path, (host, int(port)) if egress else None)
    await machines.start()
    endpoint = Endpoint(machines, lambda line: print(line, flush=True))
    await endpoint.start()
    path.unlink(missing_ok=True)
    server = await endpoint.listen(path)
    print(f"serving at unix://{path}", flush=True)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()
    await endpoint.close()
    await machines.stop()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--root", "--work", "--unix"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--egress", default="", metavar="HOST:PORT")
    options = parser.parse_args()
    root, work = options.root.resolve(), options.work.resolve()
    asyncio.run(_serve(root, work, options.unix.absolute(), options.egress))


if __name__ == "__main__":
    main()
