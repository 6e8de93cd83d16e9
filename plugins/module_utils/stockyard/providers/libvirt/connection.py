# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to libvirt."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import ConnectionFailed, InvalidInput, MissingDependency
from .session import Session, advice, recorded, successor
from .store import Store

# Seconds between attempts: a daemon that is restarting refuses connections at first.
PAUSES = (0.2, 0.8, 2.0)


class Connection:
    """A connection to a libvirt daemon that is opened again when the daemon was restarted.

    It has the attributes of its ``libvirt.virConnect``.

    :param connect: return an open ``libvirt.virConnect``.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._handle = connect()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open_handle(), name)

    def close(self) -> None:
        """Close the connection."""
        self._handle.close()

    def _open_handle(self) -> Any:
        import libvirt

        with self._lock:
            try:
                # libvirt notices the end of a daemon at the next request.
                self._handle.getLibVersion()
            except libvirt.libvirtError:
                if not self._handle.isAlive():
                    self._handle = self._connect()
            return self._handle


def open_connection(uri: str) -> Connection:
    """Return a connection to the daemon of a URI.

    :raises MissingDependency: if libvirt-python is not installed.
    :raises ConnectionFailed: if libvirt does not answer.
    """
    return Connection(lambda: _open_uri(uri))


def _open_uri(uri: str) -> Any:
    libvirt = _library(uri)
    for pause in PAUSES:
        with contextlib.suppress(libvirt.libvirtError):
            return libvirt.open(uri)
        time.sleep(pause)
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise ConnectionFailed(
            "libvirt cannot be reached.",
            name=uri,
            cause=str(error),
            remedy=f"{advice()}check that its daemon runs; for qemu:///system start libvirtd",
        ) from error


def open_session(store: Store) -> tuple[Connection, Session]:
    """Return a connection to the daemon that has the machines of a storage directory, and its
    session.

    :raises ConnectionFailed: if the daemon cannot be reached while machines of the storage run, or
        if no daemon can be reached.
    """
    _library("qemu:///session")
    recorded_session = recorded(store)
    if recorded_session is None:
        session = Session.of_environment()
        return Connection(lambda: _open(session)), session
    try:
        return Connection(lambda: _open(recorded_session)), recorded_session
    except ConnectionFailed as error:
        session = successor(store, recorded_session, error)
        return Connection(lambda: _open(session)), session


def _open(session: Session) -> Any:
    """Connect to a session's daemon; libvirt starts the daemon if it does not run."""
    libvirt = _library("qemu:///session")
    for pause in (0.0, *PAUSES):
        time.sleep(pause)
        for uri in session.uris():
            with contextlib.suppress(libvirt.libvirtError):
                return libvirt.open(uri)
        session.start()
    for uri in session.uris():
        try:
            return libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise session.unreachable(str(error)) from error
    raise session.unreachable("the daemon has no socket in this directory")


def _library(uri: str) -> Any:
    try:
        import libvirt
    except ImportError as error:
        raise MissingDependency(
            "libvirt-python is not installed for this Python.",
            name=uri,
            remedy=f"install it for {sys.executable}: pip install libvirt-python, or Debian's "
            f"python3-libvirt",
        ) from error
    # libvirt prints errors on standard error in addition to raising them.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


def checked(uri: str) -> str:
    """Check that a URI names this machine's own libvirt.

    Descriptors are passed to it, so it must be local.
    """
    parts = urlsplit(uri)
    if parts.netloc or parts.path not in ("/session", "/system") or parts.query:
        raise InvalidInput(
            f"{uri!a} is not a local QEMU hypervisor.",
            remedy="use qemu:///session or qemu:///system, on the hypervisor itself",
        )
    return uri


def default_storage(uri: str) -> Path:
    """Return the default directory of templates and hosts."""
    if uri.endswith("/system"):
        return Path("/var/lib/stockyard")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "stockyard"
