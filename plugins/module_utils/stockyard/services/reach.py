# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Docker in a host really answers, over mutual TLS, at the address that users are told."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from ..core.clock import Deadline
from ..core.host import DOCKER_PORT, HostRecord
from ..errors import DeadlineExceeded

RETRY = 0.05
ATTEMPT = 10.0


def wait_for_docker(record: HostRecord, client: Path, deadline: Deadline) -> None:
    """Wait until ``GET /_ping`` is answered with 200.

    :param client: directory with ``ca.pem``, ``cert.pem`` and ``key.pem``.
    :raises DeadlineExceeded: when it never is.
    """
    context = tls(client)
    while True:
        try:
            ping(record.address, context, min(ATTEMPT, max(deadline.left(), 0.1)))
            return
        except (OSError, http.client.HTTPException) as error:
            if deadline.passed():
                raise DeadlineExceeded(
                    f"Docker did not answer over TLS at {record.address}:{DOCKER_PORT} within {deadline.seconds:g} s.",
                    name=record.title, cause=str(error), remedy="read the host's console log",
                ) from error  # fmt: skip
            deadline.pause(RETRY)


def tls(client: Path) -> ssl.SSLContext:
    """A context that trusts the tenant's authority alone and shows the operator's certificate."""
    context = ssl.create_default_context(cafile=str(client / "ca.pem"))
    context.load_cert_chain(client / "cert.pem", client / "key.pem")
    return context


def ping(address: str, context: ssl.SSLContext, timeout: float) -> None:
    """One ``GET /_ping``.

    :raises OSError: when it is not answered with 200.
    """
    connection = http.client.HTTPSConnection(address, DOCKER_PORT, timeout=timeout, context=context)
    try:
        connection.request("GET", "/_ping")
        status = connection.getresponse().status
        if status != 200:
            raise ConnectionError(f"_ping was answered with {status}")
    finally:
        connection.close()
