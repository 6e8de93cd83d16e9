# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to a simulator that can be cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from tests.vcsim.simulator import Simulator

LOOK = 0.01


class Cut:
    """A proxy in front of a simulator. Use it in a ``with`` statement."""

    def __init__(self, vcenter: Simulator) -> None:
        self.vcenter = vcenter
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._listener.close()
        self.now()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def uri(self) -> str:
        """The simulator's, this way."""
        return self.vcenter.uri_at(self.port)

    def now(self) -> None:
        """Cut every connection; later ones work."""
        with self._lock:
            cut, self._open = self._open, []
        self.cuts += bool(cut)
        for sock in cut:
            with contextlib.suppress(OSError):
                # Away with it, and with all that is under way: a reset.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def after(self, method: str, count: int) -> None:
        """Cut as soon as a method was called so often."""
        threading.Thread(target=self._watch, args=(method, count), daemon=True).start()

    def _watch(self, method: str, count: int) -> None:
        while not self._ended.is_set():
            if self.vcenter.calls()[method] >= count:
                self.now()
                return
            time.sleep(LOOK)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _peer = self._listener.accept()
                far = socket.create_connection((self.vcenter.address, self.vcenter.port))
                with self._lock:
                    self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
