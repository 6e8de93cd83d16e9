# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One login to a vCenter, with a checked certificate, renewed if vCenter dropped the session."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ...errors import ConnectionFailed, InvalidInput, Unsupported
from ...model.login import Login
from ...paths import expand_user
from . import api, soap
from .faults import LOST, is_a, lost, translated
from .place import Place
from .rest import Rest

T = TypeVar("T")
CONNECT = 15.0
# Idle connections are closed before a firewall forgets them.
IDLE = 60
PAUSE = 0.5
# New sessions for one request: a request of several calls may lose more than one session.
LOGINS = 3
# The end of the path of one element of an array, as in config.hardware.device[4000].
ELEMENT = re.compile(r"\[[^\]]+\]$")


class Session:
    """A session that several threads use.

    Objects that belong to the session alone (views, collectors) are stored by :meth:`own`: after a
    new login they are created again.
    """

    def __init__(self, place: Place, login: Login) -> None:
        self.place = place
        self._login = login
        self._lock = threading.Lock()
        self._owned: dict[str, Any] = {}
        self._generation = 0
        # Whether the connection failed at its last use, or shortly before.
        self.down = False
        # Whether this vCenter rejected the paths of single elements of arrays.
        self.whole_arrays = False
        self.instance = _instance(place, trust(login))
        try:
            with translated("open vCenter", place.host):
                self.content = self.instance.RetrieveContent()
                self._refuse_esxi()
                self._enter()
        except BaseException:
            self.instance._stub.DropConnections()
            raise

    def read(self, action: str, name: str, call: Callable[[], T]) -> T:
        """Read something, again if the session or the connection was lost."""
        return self._guarded(action, name, call, twice=True)

    def change(self, action: str, name: str, call: Callable[[], T]) -> T:
        """Change something.

        The call is repeated only if vCenter refused it for want of a session, so that it had no
        effect.
        """
        return self._guarded(action, name, call, twice=False)

    def session_object(self, key: str, create: Callable[[], T]) -> T:
        """Return an object of this session, and create it if the session has none."""
        with self._lock:
            if key not in self._owned:
                self._owned[key] = create()
            resource: T = self._owned[key]
            return resource

    def disown(self, key: str) -> None:
        """Discard an object of this session."""
        with self._lock:
            self._owned.pop(key, None)

    def rest(self) -> Rest:
        """Return a session of vCenter's REST interface."""
        return Rest(self.place, self._login, trust(self._login))

    def paths(self, names: Iterable[str]) -> list[str]:
        """Return paths of properties in the form that this vCenter accepts, each once."""
        return list(
            dict.fromkeys(ELEMENT.sub("", name) if self.whole_arrays else name for name in names)
        )

    def close(self) -> None:
        """Log out. Views and collectors end with the session."""
        with contextlib.suppress(api.vmodl().MethodFault, *LOST):
            self.content.sessionManager.Logout()
        self.instance._stub.DropConnections()

    def _guarded(self, action: str, name: str, call: Callable[[], T], *, twice: bool) -> T:
        with translated(action, name):
            try:
                return self._tried(call, twice=twice)
            except LOST:
                self.down = True
                raise

    def _tried(self, call: Callable[[], T], *, twice: bool) -> T:
        for attempts_left in range(LOGINS, -1, -1):
            generation = self._generation
            try:
                return call()
            except api.vmodl().MethodFault as fault:
                if not attempts_left or not is_a(fault, "NotAuthenticated"):
                    raise
                self._log_in_again(generation)
            except LOST:
                if not twice:
                    raise
                twice = False
                time.sleep(PAUSE)
        raise AssertionError("unreachable")

    def _log_in_again(self, generation: int) -> None:
        """Log in again, unless another thread has logged in since."""
        with self._lock:
            if self._generation == generation:
                self._owned.clear()
                self._enter()

    def _enter(self) -> None:
        self.content.sessionManager.Login(self._login.username, self._login.password, None)
        self._generation += 1

    def _refuse_esxi(self) -> None:
        about = self.content.about
        if about.apiType != "VirtualCenter":
            raise Unsupported(
                "this is an ESXi host, not a vCenter.",
                name=self.place.host,
                cause=f"the server reports {about.apiType}",
                remedy="use the vCenter that manages the host, because only vCenter creates clones",
            )


def trust(login: Login) -> ssl.SSLContext:
    """Return the TLS context that checks vCenter's certificate.

    pyvmomi's own helper accepts any certificate on localhost; this function does not.

    :raises InvalidInput: if ``ca_path`` cannot be read.
    """
    context = ssl.create_default_context()
    if login.validate_certs is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif login.ca_path:
        path = expand_user(login.ca_path)
        try:
            context.load_verify_locations(
                **({"capath": str(path)} if path.is_dir() else {"cafile": str(path)})
            )
        except OSError as error:
            remedy = "set a file of PEM certificates, or a directory prepared by openssl rehash"
            raise InvalidInput(
                "ca_path cannot be used.", name=str(path), cause=str(error), remedy=remedy
            ) from error
    return context


def _instance(place: Place, context: ssl.SSLContext) -> Any:
    """Return the API's service instance, in the newest version that both sides know."""
    vim, adapter = api.vim(), api.adapter()
    _knock(place, context)
    with translated("open vCenter", place.host):
        try:
            stub = adapter(
                host=place.host,
                port=place.port,
                path="/sdk",
                sslContext=context,
                poolSize=place.parallel + 4,
                httpConnectionTimeout=soap.SILENCE,
                connectionPoolTimeout=IDLE,
            )
            stub.scheme = soap.SoapConnection
        except LOST:
            raise
        except api.vmodl().MethodFault:
            raise
        except Exception as error:  # pyVim raises no narrower error for other servers
            raise ConnectionFailed(
                "the server is not a vCenter.",
                name=f"{place.host}:{place.port}",
                cause=str(error),
                remedy="check host and port",
            ) from error
        return vim.ServiceInstance("ServiceInstance", stub)


def _knock(place: Place, context: ssl.SSLContext) -> None:
    """Check in bounded time that a server answers, before pyvmomi is used.

    pyvmomi's first request has no time limit.
    """
    name = f"{place.host}:{place.port}"
    try:
        soap.ask_versions(place.host, place.port, context, CONNECT)
    except LOST as error:
        raise lost("connect", name, error) from error
