# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon: a thread that keeps the yard, and a server that answers requests."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from ..errors import ConnectionFailed, HypervisorError, MissingDependency, StockyardError
from ..files import lock
from ..model.service import ServiceSpec
from ..paths import expand_user
from ..readiness import report_ready
from ..resources.context import Context
from ..yard import Yard
from . import projects
from .http_server import HttpServer
from .keeper import Keeper
from .local_user import user_of
from .requests import Requests
from .status import Status
from .stoppable_clock import StoppableClock, Stopped

# Seconds that running operations have to end after SIGTERM.
STOP_PATIENCE = 20.0
# The pauses after failed passes, in seconds.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class Daemon:
    """The daemon of one yard.

    :param open_yard: opens the yard; also after the hypervisor was away.
    """

    def __init__(self, open_yard: Callable[[], Yard], spec: ServiceSpec) -> None:
        self._open_yard = open_yard
        self._spec = spec
        self._yard = open_yard()
        # Yards of earlier connections, which requests can still use.
        self._former_yards: list[Yard] = []
        self.stop = threading.Event()
        self._woken = threading.Event()
        self._ended = threading.Event()
        context = self._yard.context
        self.progress = context.progress
        self.status = Status(context.clock, context.progress)
        tokens = expand_user(spec.tokens) if spec.tokens else None
        if tokens:
            projects.read(tokens)
        self.requests = Requests(self.context, tokens, self.status, self.stop, self.wake)

    def context(self) -> Context:
        """Return the context of the yard; its pauses end when the daemon stops."""
        context = self._yard.context
        return replace(context, clock=StoppableClock(context.clock, self.stop))

    def wake(self) -> None:
        """Start the next pass over the yard at once."""
        self._woken.set()

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT; return whether everything ended in time.

        :raises StockyardError: if the daemon cannot serve at its places.
        """
        threading.Thread(target=self._keep, daemon=True).start()
        try:
            asyncio.run(self._serve())
        finally:
            self.stop.set()
            self._woken.set()
        deadline = self._yard.context.deadline(STOP_PATIENCE)
        ended = self._ended.wait(deadline.left()) and self.requests.wait_idle(deadline.left())
        if ended:
            self._close_former_yards()
            self._yard.close()
        return ended

    def _keep(self) -> None:
        """Keep the yard until the daemon stops."""
        keeper, pause = Keeper(self.context(), self._spec), FIRST_PAUSE
        while not self.stop.is_set():
            self._woken.clear()
            self._close_former_yards()
            try:
                seconds = keeper.run_pass()
                # Only the fleets that failed wait: the others need the next pass in time.
                if keeper.problems:
                    self.status.failed(" ".join(keeper.problems), seconds)
                else:
                    self.status.succeeded()
                pause = FIRST_PAUSE
            except Stopped:
                break
            except Exception as error:  # noqa: BLE001  # the daemon must outlive each failure
                if self.stop.is_set():
                    break
                self.status.failed(str(error), pause)
                if isinstance(error, HypervisorError) or not isinstance(error, StockyardError):
                    self._reopen()
                    keeper.ctx = self.context()
                seconds, pause = pause, min(LONGEST_PAUSE, pause * 2)
            self._woken.wait(seconds)
        self._ended.set()

    def _reopen(self) -> None:
        """Replace a connection that may be lost. The next pass reports why it failed."""
        with suppress(Exception):
            yard = self._open_yard()
            self._former_yards.append(self._yard)
            self._yard = yard

    def _close_former_yards(self) -> None:
        """Close the earlier connections if no request uses them. Later requests do not."""
        if self._former_yards and self.requests.wait_idle(0.0):
            while self._former_yards:
                with suppress(Exception):
                    self._former_yards.pop().close()

    async def _serve(self) -> None:
        spec, stop, loop = self._spec, asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        servers: list[asyncio.Server] = []
        path = expand_user(spec.socket).absolute() if spec.socket else None
        socket_lock = ExitStack()
        try:
            if path:
                server = HttpServer(self.requests.answer_owner)
                socket_lock.callback(os.close, _lock_socket(path))
                listener = _listen_unix(path)
                servers.append(await asyncio.start_unix_server(server.serve_client, sock=listener))
                self.progress(f"serving at unix://{path}")
            if spec.address:
                local = HttpServer(self.requests.answer_local, user_of)
                servers.append(
                    await asyncio.start_server(local.serve_client, spec.address, spec.port)
                )
                self.progress(f"serving at http://{_place(spec)}")
            report_ready()
            await stop.wait()
        except OSError as error:
            raise ConnectionFailed(
                "the daemon cannot serve.", cause=str(error), remedy="choose another place"
            ) from error
        finally:
            self.stop.set()
            for listening in servers:
                listening.close()
            if path and servers:
                path.unlink(missing_ok=True)
            socket_lock.close()


def serve(open_yard: Callable[[], Yard], spec: ServiceSpec) -> bool:
    """Keep a yard, and serve it, until the process gets SIGTERM or SIGINT.

    :param open_yard: opens the yard; also after the hypervisor was away.
    :return: whether all operations ended in time. The process must end at once if not.
    :raises StockyardError: if the daemon cannot start.
    """
    if spec.socket or spec.address:
        try:
            import h11  # noqa: F401  # used for each request
        except ImportError as error:
            raise MissingDependency(
                "the library h11 is not installed.", remedy="pip install h11"
            ) from error
    return Daemon(open_yard, spec).run()


def _lock_socket(path: Path) -> int:
    """Return a descriptor that reserves the path of a socket for this daemon: of two daemons that
    start at the same time, one would replace the socket of the other.

    :raises ConnectionFailed: if another daemon serves there.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = lock(path)
    if handle is None:
        raise _occupied(path)
    return handle


def _occupied(path: Path) -> ConnectionFailed:
    return ConnectionFailed(
        "another daemon serves at this socket.",
        name=str(path),
        remedy="stop it, or choose another path",
    )


def _listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket that only this user can open. The socket of a dead daemon is
    replaced.

    :raises ConnectionFailed: if another daemon serves there.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConnectionFailed(
                "a file is in the place of the socket.",
                name=str(path),
                remedy="delete the file, or choose another path",
            )
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            else:
                raise _occupied(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The file gets the mode of the socket. A umask would apply to files of other threads, too.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    return listener


def _place(spec: ServiceSpec) -> str:
    return f"[{spec.address}]:{spec.port}" if ":" in spec.address else f"{spec.address}:{spec.port}"
