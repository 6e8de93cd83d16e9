# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a lease service, for holders without access to the hypervisor."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import errors
from ..clock import Clock, Deadline, SystemClock
from ..errors import ConnectionFailed, HypervisorError, InvalidInput, StockyardError
from ..files import write_atomic
from ..model import untrusted
from ..model.lease import seconds
from ..paths import expand_user
from ..web import Answer, Bounds, Connection

LEASES = "/v1/leases"
LONGEST_ANSWER = 1 << 20
# Seconds for an answer in addition to the wait.
PATIENCE = 120.0
# Seconds between two attempts, while the daemon restarts or the project has too many requests.
PAUSE = 1.0
# Seconds in which a release is repeated: systemd restarts a daemon after ten.
RELEASE_PATIENCE = 30.0
FILES = {"ca": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}


@dataclass(frozen=True)
class ServedLease:
    """A lease from a service.

    :param id: the number of the lease.
    :param holder: its holder, with the project.
    :param until: its end, in seconds since the epoch.
    :param host: the name of the host.
    :param fleet: the fleet of the host.
    :param address: the address of the host.
    :param docker_host: the URL of Docker in the host.
    :param directory: the directory with the certificate of the lease.
    """

    id: str
    holder: str
    until: float
    host: str
    fleet: str
    address: str
    docker_host: str = ""
    directory: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""
        return {
            "DOCKER_HOST": self.docker_host,
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.directory),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the lease as plain JSON types."""
        return {
            "id": self.id,
            "holder": self.holder,
            "until": self.until,
            "host": self.host,
            "fleet": self.fleet,
            "address": self.address,
            "environment": self.environment,
        }


class HeldServedLease:
    """A lease that this program holds from a service. At the end of a ``with`` block it is
    released.
    """

    def __init__(self, service: LeaseService, info: ServedLease, duration: float) -> None:
        self._service = service
        self._duration = duration
        self.info = info

    @property
    def id(self) -> str:
        """Return the number of the lease."""
        return self.info.id

    @property
    def host(self) -> str:
        """Return the name of the host."""
        return self.info.host

    @property
    def until(self) -> float:
        """Return the end of the lease, in seconds since the epoch."""
        return self.info.until

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""
        return self.info.environment

    def __enter__(self) -> HeldServedLease:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def renew(self, duration: float | str | None = None) -> None:
        """Renew the lease from now on for its first duration, or for the given one."""
        self.info = self._service.renew(self.id, self._duration if duration is None else duration)

    def release(self) -> None:
        """Release the lease."""
        self._service.release(self.id)


class LeaseService:
    """The lease service of a daemon.

    :param url: ``unix:///path`` or ``http://127.0.0.1:2380``.
    :param token: the token of the project.
    :param directory: the directory for certificates; one in the user's configuration if not given.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        directory: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._parts = urlsplit(url)
        if self._parts.scheme not in ("unix", "http") or not (
            self._parts.path if self._parts.scheme == "unix" else self._parts.hostname
        ):
            raise InvalidInput(
                f"{url!a} is not the address of a service.",
                remedy="write unix:///path or http://127.0.0.1:2380",
            )
        if not token or not token.isascii() or not token.isprintable():
            raise InvalidInput(
                "the token is not valid.", remedy="write the token to the file again"
            )
        self._url = url
        self._token = token
        self._directory = Path(directory or expand_user("~/.config/stockyard/served-leases"))

    def acquire(
        self,
        fleet: str = "",
        *,
        holder: str,
        duration: float | str = 3600.0,
        labels: Mapping[str, str] | None = None,
        pool: str = "",
        wait: float | str = 0.0,
    ) -> HeldServedLease:
        """Lease a host, or return the lease that the holder has. The request is repeated while the
        daemon restarts, until its wait ends.

        :param wait: the longest time to wait for a host, in seconds, or as ``10m``.
        :raises Busy: if no host is free.
        :raises OperationRefused: if the project cannot lease the host.
        """
        length, waited = _seconds("duration", duration), _seconds("wait", wait)
        deadline = Deadline(waited, self._clock)
        fields = {
            "fleet": fleet,
            "pool": pool,
            "holder": holder,
            "labels": dict(labels or {}),
            "duration": length,
        }
        while True:
            try:
                answer = self._call("POST", LEASES, {**fields, "wait": deadline.left()})
                return HeldServedLease(self, self._keep(answer), length)
            except (HypervisorError, errors.Busy):
                if deadline.passed():
                    raise
                deadline.pause(PAUSE)

    def renew(self, lease: str, duration: float | str) -> ServedLease:
        """Renew a lease from now on for a duration.

        :raises LeaseExpired: if the lease has expired.
        """
        fields = {"duration": _seconds("duration", duration)}
        return self._keep(self._call("POST", f"{LEASES}/{_path(lease)}", fields))

    def release(self, lease: str) -> None:
        """Release a lease: its host is deleted. The request is repeated for a short time while the
        daemon restarts.
        """
        deadline = Deadline(RELEASE_PATIENCE, self._clock)
        while True:
            try:
                self._call("DELETE", f"{LEASES}/{_path(lease)}")
                break
            except HypervisorError:
                if deadline.passed():
                    raise
                deadline.pause(PAUSE)
        shutil.rmtree(self._directory / _path(lease), ignore_errors=True)

    def get(self, lease: str) -> ServedLease:
        """Return a lease, and write its certificate again."""
        return self._keep(self._call("GET", f"{LEASES}/{_path(lease)}"))

    def list(self) -> tuple[ServedLease, ...]:
        """Return the leases of the project."""
        leases = untrusted.items(self._call("GET", LEASES).get("leases"), "leases")
        return tuple(self._lease(item) for item in leases)

    def _keep(self, answer: Mapping[str, Any]) -> ServedLease:
        """Write the certificate of a lease, and return the lease."""
        lease = self._lease(answer)
        directory = self._directory / _path(lease.id)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, file in FILES.items():
                text = untrusted.text(answer.get(name), name, LONGEST_ANSWER)
                write_atomic(directory / file, text)
        except untrusted.MalformedData as error:
            raise self._malformed(error) from error
        except OSError as error:
            raise InvalidInput(
                "the certificate cannot be written.", name=str(directory), cause=str(error)
            ) from error
        return replace(lease, directory=directory)

    def _lease(self, data: Any) -> ServedLease:
        try:
            fields = untrusted.mapping(data, "the lease")
            texts = {
                name: untrusted.line(fields.get(name, ""), name)
                for name in ("id", "holder", "host", "fleet", "address", "docker_host")
            }
            until = untrusted.number(fields.get("until"), "until")
            return ServedLease(
                texts["id"],
                texts["holder"],
                until,
                texts["host"],
                texts["fleet"],
                texts["address"],
                texts["docker_host"],
            )
        except untrusted.MalformedData as error:
            raise self._malformed(error) from error

    def _call(
        self, method: str, path: str, fields: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        wait = float(fields.get("wait", 0.0)) if fields else 0.0
        body = json.dumps(fields).encode() if fields else b""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        bounds = Bounds(Deadline(wait + PATIENCE, self._clock), LONGEST_ANSWER)
        try:
            answer = self._connection(bounds).exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionFailed(
                "the lease service cannot be reached.",
                name=self._url,
                cause=str(error),
                remedy="check that stockyard serve runs, and that this user can open its socket",
            ) from error
        return self._read(answer)

    def _connection(self, bounds: Bounds) -> Connection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, bounds)
        return Connection(
            self._parts.hostname or "", self._parts.port or http.client.HTTP_PORT, bounds=bounds
        )

    def _read(self, answer: Answer) -> dict[str, Any]:
        """Return the fields of an answer.

        :raises StockyardError: the error that the service reported.
        """
        try:
            data = untrusted.mapping(untrusted.parse(answer.body), "the answer")
            if answer.status < http.client.BAD_REQUEST:
                return data
            facts = untrusted.mapping(data.get("error"), "the error")
            texts = {
                name: untrusted.words(facts.get(name, ""), name)
                for name in ("message", "name", "remedy", "kind")
            }
        except untrusted.MalformedData as error:
            raise self._malformed(error) from error
        kind = getattr(errors, texts.pop("kind"), None)
        message = texts.pop("message")
        if isinstance(kind, type) and issubclass(kind, StockyardError):
            raise kind(message, **texts)
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise HypervisorError(message, **texts)
        raise errors.OperationRefused(message, **{**texts, "name": texts["name"] or self._url})

    def _malformed(self, error: Exception) -> StockyardError:
        return errors.ControllerError(
            "the answer of the lease service is not valid.", name=self._url, cause=str(error)
        )


class _UnixConnection(Connection):
    """A connection through a Unix socket."""

    def __init__(self, path: str, bounds: Bounds) -> None:
        super().__init__("localhost", bounds=bounds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.bounds.remaining())
        self.sock.connect(self._path)


def _path(lease: str) -> str:
    """Return the number of a lease as a part of a path.

    :raises InvalidInput: if the text cannot be the number of a lease.
    """
    if not lease or not all(char in "0123456789abcdef-" for char in lease):
        raise InvalidInput(f"{lease!a} is not the number of a lease.")
    return lease


def _seconds(name: str, duration: float | str) -> float:
    return seconds(name, duration) if isinstance(duration, str) else float(duration)
