# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Docker in a host really answers, over mutual TLS, at the address that users are told."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from pathlib import Path

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError
from ...model import untrusted
from ...model.host import DOCKER_PORT, HostRecord
from ...web import Bounds, Connection

RETRY = 0.02
# How long one attempt may take: a lost first packet costs little, and a slow guest gets its time in
# the end.
FIRST_ATTEMPT = 0.7
LONGEST_ATTEMPT = 10.0
LONGEST_ANSWER = 1 << 24
# Seconds of silence before the guest is asked whether a unit failed, and between two questions.
LOOK = 5.0


def wait_for_docker(
    record: HostRecord, client: Path, deadline: Deadline, failures: Callable[[], str] = lambda: ""
) -> None:
    """Wait until ``GET /_ping`` is answered with 200.

    :param client: directory with ``ca.pem``, ``cert.pem`` and ``key.pem``.
    :param failures: asks the guest which units gave up, with their last words; empty for none.
    :raises GuestError: when a unit gave up that Docker needs.
    :raises DeadlineExceeded: when it never is.
    """
    context, patience, before = tls(client), FIRST_ATTEMPT, ""
    look = deadline.within(LOOK)
    while True:
        if look.passed():
            if cause := failures():
                raise GuestError(
                    "Docker does not start in the host.",
                    name=record.title,
                    cause=cause,
                    remedy="correct the settings that the cause names, then replace the host or "
                    "restart the unit in it",
                )
            look = deadline.within(LOOK)
        try:
            ping(record.address, context, min(patience, max(deadline.left(), 0.1)))
            return
        except TimeoutError:
            patience = min(2 * patience, LONGEST_ATTEMPT)
            if deadline.passed():
                raise _silent(record, deadline, f"the last attempt timed out{before}") from None
        except (OSError, http.client.HTTPException) as error:
            if deadline.passed():
                raise _silent(record, deadline, str(error)) from error
            before = f", one before it: {error}"
            deadline.pause(RETRY)


def _silent(record: HostRecord, deadline: Deadline, cause: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"Docker did not answer over TLS at {record.address}:{DOCKER_PORT} within "
        f"{deadline.seconds:g} s.",
        name=record.title,
        cause=cause,
        remedy="read the host's console log",
    )


def tls(client: Path) -> ssl.SSLContext:
    """A context that trusts the tenant's authority alone and shows the operator's certificate."""
    context = ssl.create_default_context(cafile=str(client / "ca.pem"))
    context.load_cert_chain(client / "cert.pem", client / "key.pem")
    return context


def ping(address: str, context: ssl.SSLContext, timeout: float) -> None:
    """One ``GET /_ping``.

    :raises OSError: when it is not answered with 200.
    """
    _get(address, "/_ping", context, timeout)


def running(address: str, context: ssl.SSLContext, timeout: float) -> list[str]:
    """The names of the containers that run in a host.

    :raises OSError: when Docker does not say.
    """
    answer = _get(address, "/containers/json", context, timeout)
    try:
        listed = untrusted.items(
            untrusted.parse(answer, longest=LONGEST_ANSWER), "the list of containers"
        )
        return [_container_name(container) for container in listed]
    except untrusted.MalformedData as error:
        raise ConnectionError(f"the list of containers makes no sense: {error}") from error


def _container_name(container: object) -> str:
    facts = untrusted.mapping(container, "a container")
    names = untrusted.items(facts.get("Names") or [], "Names")
    name = names[0] if names else untrusted.item(facts, "Id", "a container")
    return untrusted.line(name, "a container's name").lstrip("/")


def _get(address: str, path: str, context: ssl.SSLContext, timeout: float) -> bytes:
    bounds = Bounds(Deadline(timeout), LONGEST_ANSWER)
    answer = Connection(address, DOCKER_PORT, bounds=bounds, context=context).exchange("GET", path)
    if answer.status != 200:
        raise ConnectionError(f"{path.rpartition('/')[2]} was answered with {answer.status}")
    return answer.body
