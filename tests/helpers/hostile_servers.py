# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that answer as no honest one does: slowly, without end, or with lengths that are not
true.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# Parts of an answer, each sent after a pause in seconds.
Script = Callable[[], Iterable[tuple[float, bytes]]]
HEAD = b"HTTP/1.1 200 OK\r\n"


def slow_head() -> Iterator[tuple[float, bytes]]:
    """Send one byte of a head at a time, each well within a socket's timeout."""
    return ((0.1, byte) for byte in itertools.chain([HEAD[:1]], itertools.repeat(b"x")))


def endless_head() -> Iterator[tuple[float, bytes]]:
    """Send short header lines for ever."""
    return itertools.chain([(0.0, HEAD)], itertools.repeat((0.0, b"X-Head: more\r\n")))


def endless_continue() -> Iterator[tuple[float, bytes]]:
    """Send provisional answers for ever."""
    return itertools.repeat((0.0, b"HTTP/1.1 100 Continue\r\n\r\n"))


def slow_body() -> Iterator[tuple[float, bytes]]:
    """Send a body that has no end, one byte at a time."""
    return itertools.chain([(0.0, HEAD + b"\r\n")], itertools.repeat((0.1, b" ")))


def endless_body() -> Iterator[tuple[float, bytes]]:
    """Send a body that has no end, as fast as it is read."""
    return itertools.chain([(0.0, HEAD + b"\r\n")], itertools.repeat((0.0, b" " * 65536)))


def endless_chunks() -> Iterator[tuple[float, bytes]]:
    """Send chunks without end."""
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return itertools.chain(
        [(0.0, start)], itertools.repeat((0.0, b"10000\r\n" + b" " * 65536 + b"\r\n"))
    )


def huge_length() -> Iterator[tuple[float, bytes]]:
    """Claim a body of a hundred terabytes, and hang up."""
    return iter([(0.0, HEAD + b"Content-Length: 100000000000000\r\n\r\n ")])


def huge_chunk() -> Iterator[tuple[float, bytes]]:
    """Claim a chunk of terabytes, and hang up."""
    return iter([(0.0, HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n ")])


def negative_chunk() -> Iterator[tuple[float, bytes]]:
    """Claim a chunk of less than nothing."""
    return iter([(0.0, HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n ")])


@contextmanager
def served(
    script: Script, context: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """Run a server that answers every request by a script; gives its port.

    :param context: for TLS; a server without one never answers a handshake.
    """
    end = threading.Event()
    with socket.create_server((address, port)) as listener:
        thread = threading.Thread(
            target=_accept, args=(listener, script, context, end), daemon=True
        )
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            end.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(
    listener: socket.socket, script: Script, context: ssl.SSLContext | None, end: threading.Event
) -> None:
    while not end.is_set():
        try:
            line, _peer = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(line, script, context, end), daemon=True).start()


def _answer(
    line: socket.socket, script: Script, context: ssl.SSLContext | None, end: threading.Event
) -> None:
    with contextlib.suppress(OSError), line:
        line.settimeout(10)
        with context.wrap_socket(line, server_side=True) if context else line as peer:
            peer.recv(65536)
            for pause, data in script():
                time.sleep(pause)
                if end.is_set():
                    return
                peer.sendall(data)
