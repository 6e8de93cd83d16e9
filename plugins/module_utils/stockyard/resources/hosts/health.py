# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of running hosts: Docker in them is asked in parallel, and gets time before it is
judged.

A TLS front that is full or unreachable is not a dead Docker: before a host counts as unhealthy, its
agent is asked over a channel that needs no network.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ...errors import StockyardError
from ...model.host import Host, HostRecord
from ..context import Context
from . import trust
from .docker_api import RETRY, ping, tls

# Seconds for a host to answer before it counts as unhealthy, and for one attempt.
PATIENCE = 20.0
ATTEMPT = 5.0
AT_ONCE = 16
# Seconds for all hosts together: hosts that are not reached in that time are not judged, so that
# many silent hosts do not delay a run.
ALL = 60.0
# Seconds for the guest's agent, which gives dockerd ten.
AGENT_PATIENCE = 15.0


def unhealthy(ctx: Context, tenant: str, hosts: Iterable[Host]) -> dict[str, str]:
    """Return the running hosts of a tenant whose Docker does not answer, by name, each with the
    reason.

    A host that must be renewed is not judged, nor is a host that refuses the client: it is alive.
    """
    hosts = [host for host in hosts if host.serving]
    if not ctx.provider.capabilities.endpoints or not hosts:
        return {}
    try:
        current_trust = trust.current(ctx, tenant, hosts)
        context = tls(ctx.pki(tenant).client_directory)
    except (OSError, StockyardError):
        # Without usable keys, this controller judges no host.
        return {}
    records = [host.record for host in hosts if not current_trust.reasons(host.record.identity)]
    total_deadline = ctx.deadline(ALL)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(
            pool.map(
                lambda record: "" if total_deadline.passed() else _problem(ctx, record, context),
                records,
            )
        )
    return {
        record.name: problem for record, problem in zip(records, answers, strict=True) if problem
    }


def _problem(ctx: Context, record: HostRecord, context: ssl.SSLContext) -> str:
    patience = ctx.deadline(PATIENCE)
    while True:
        try:
            ping(record.address, context, ATTEMPT)
            return ""
        except (
            ssl.SSLEOFError,
            ssl.SSLZeroReturnError,
            TimeoutError,
            http.client.HTTPException,
        ) as error:
            problem = str(error) or type(error).__name__
        except ssl.SSLError:
            return ""
        except OSError as error:
            problem = str(error)
        if patience.passed():
            break
        patience.pause(RETRY)
    if not _answers_inside(ctx, record):
        return f"Docker does not answer ({problem})"
    ctx.progress(
        f"{record.title}: Docker answers inside the host, but not over TLS ({problem}); the host "
        "is retained. Close connections to the host, or read the journal of "
        "stockyard-tls*.service in the host."
    )
    return ""


def _answers_inside(ctx: Context, record: HostRecord) -> bool:
    """Return whether the guest's agent reports that dockerd answers. Without a report there is no
    proof of it.
    """
    try:
        with ctx.guest(record, ctx.deadline(AGENT_PATIENCE)) as guest:
            return guest.docker_probe().answers
    except StockyardError:
        return False
