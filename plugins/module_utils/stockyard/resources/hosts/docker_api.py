# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that Docker in a host answers over mutual TLS, at the address that users are given."""

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
# The length of the first attempt: a lost first packet costs little, and a slow guest gets its time
# in later attempts.
FIRST_ATTEMPT = 0.7
LONGEST_ATTEMPT = 10.0
LONGEST_ANSWER = 1 << 24
# Seconds of silence before the guest is asked for failed units, and between two such requests.
LOOK = 5.0


def wait_for_docker(
    record: HostRecord, client: Path, deadline: Deadline, failures: Callable[[], str] = lambda: ""
) -> None:
    """Wait until ``GET /_ping`` is answered with 200.

    :param client: directory with ``ca.pem``, ``cert.pem`` and ``key.pem``.
    :param failures: asks the guest for its failed units, with their last log lines; empty if there
        are none.
    :raises GuestError: if a unit failed that Docker needs.
    :raises DeadlineExceeded: if Docker does not answer in time.
    """
    context, patience, earlier_error = tls(client), FIRST_ATTEMPT, ""
    next_check = deadline.within(LOOK)
    while True:
        if next_check.passed():
            if cause := failures():
                raise GuestError(
                    "Docker does not start in the host.",
                    name=record.title,
                    cause=cause,
                    remedy="correct the settings that the cause names, then replace the "
                    "host, or restart the unit in the host",
                )
            next_check = deadline.within(LOOK)
        try:
            ping(record.address, context, min(patience, max(deadline.left(), 0.1)))
            return
        except TimeoutError:
            patience = min(2 * patience, LONGEST_ATTEMPT)
            if deadline.passed():
                raise _silent(
                    record, deadline, f"the last attempt timed out{earlier_error}"
                ) from None
        except (OSError, http.client.HTTPException) as error:
            if deadline.passed():
                raise _silent(record, deadline, str(error)) from error
            earlier_error = f", one before it: {error}"
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
    """Return a context that trusts only the tenant's authority and shows the operator's
    certificate.
    """
    context = ssl.create_default_context(cafile=str(client / "ca.pem"))
    context.load_cert_chain(client / "cert.pem", client / "key.pem")
    return context


def ping(address: str, context: ssl.SSLContext, timeout: float) -> None:
    """Send one ``GET /_ping``.

    :raises OSError: if the answer is not 200.
    """
    _get(address, "/_ping", context, timeout)


def running(address: str, context: ssl.SSLContext, timeout: float) -> list[str]:
    """Return the names of the containers that run in a host.

    :raises OSError: if Docker does not answer.
    """
    answer = _get(address, "/containers/json", context, timeout)
    try:
        containers = untrusted.items(
            untrusted.parse(answer, longest=LONGEST_ANSWER), "the list of containers"
        )
        return [_container_name(container) for container in containers]
    except untrusted.MalformedData as error:
        raise ConnectionError(f"the list of containers is not valid: {error}") from error


def was_used(
    address: str, context: ssl.SSLContext, since: float, until: float, timeout: float
) -> bool:
    """Return whether a container runs in a host, or Docker did anything in a period: it reports
    the last 256 events since it started.

    :param since: seconds since the epoch.
    :param until: the same; a later time than the guest's clock has would be waited for.
    :raises OSError: if Docker does not answer.
    """
    if running(address, context, timeout):
        return True
    path = f"/events?since={since:.0f}&until={until:.0f}"
    return bool(_get(address, path, context, timeout).strip())


def _container_name(container: object) -> str:
    facts = untrusted.mapping(container, "a container")
    names = untrusted.items(facts.get("Names") or [], "Names")
    name = names[0] if names else untrusted.item(facts, "Id", "a container")
    return untrusted.line(name, "a container's name").lstrip("/")


def _get(address: str, path: str, context: ssl.SSLContext, timeout: float) -> bytes:
    bounds = Bounds(Deadline(timeout), LONGEST_ANSWER)
    answer = Connection(address, DOCKER_PORT, bounds=bounds, context=context).exchange("GET", path)
    if answer.status != 200:
        raise ConnectionError(f"{path.rpartition('/')[2]} returned status {answer.status}")
    return answer.body
