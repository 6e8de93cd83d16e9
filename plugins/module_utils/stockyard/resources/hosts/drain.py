# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drain of a host: it gets no new work, the user's command runs, and its containers may end."""

from __future__ import annotations

import http.client
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from ...clock import Deadline
from ...errors import DeadlineExceeded, OperationRefused, StockyardError
from ...model.host import Host, HostRecord
from ...model.update import UpdateSpec
from ..context import Context
from ..failures import host_work
from . import access
from .docker_api import LONGEST_ATTEMPT, running, tls

POLL = 1.0
# A whole exchange over TLS with a busy guest takes this long: a shorter attempt would name no
# containers at the end of the grace period.
SHORTEST_ATTEMPT = 1.0


@host_work
def drain(ctx: Context, host: Host, update: UpdateSpec, deadline: Deadline) -> HostRecord:
    """Prepare a complete host for its deletion; returns its record. If that fails, the host is
    ready again.

    :raises Conflict: if a user leased the host since it was observed.
    :raises OperationRefused: if the user's command refuses the deletion.
    """
    record = host.record
    if record.phase not in ("ready", "draining"):
        return record
    if record.phase == "ready":
        record = ctx.provider.claim(record, phase="draining")
    try:
        if update.hook:
            run_hook(ctx, record, update.hook, deadline)
        if host.state == "running" and update.patience and ctx.provider.capabilities.endpoints:
            _wait_for_containers(ctx, record, deadline.within(update.patience))
    except BaseException:
        with suppress(StockyardError):
            ctx.provider.claim(record, phase="ready")
        raise
    return record


def run_hook(ctx: Context, record: HostRecord, hook: Sequence[str], deadline: Deadline) -> None:
    """Run the user's command for one host.

    :raises OperationRefused: if the command fails.
    """
    try:
        process = subprocess.run(
            list(hook),
            env={**os.environ, **environment(ctx, record)},
            timeout=max(deadline.left(), 1.0),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(
            "the hook did not end in time, so the host stays.", name=record.title
        ) from error
    except (OSError, ValueError) as error:
        raise OperationRefused(
            "the hook cannot be run, so the host stays.",
            name=record.title,
            cause=str(error),
            remedy="give the hook as a list: a program that the controller has, and its arguments",
        ) from error
    if process.returncode:
        output = process.stdout.decode(errors="replace").strip()[-500:]
        raise OperationRefused(
            f"the hook ended with code {process.returncode}, so the host stays.",
            name=record.title,
            cause=output,
            remedy="correct the error that the hook reports, then run again",
        )
    ctx.progress(f"{record.title}: hook completed")


def environment(ctx: Context, record: HostRecord) -> dict[str, str]:
    """Return the facts of a host for the user's command, and the environment for Docker's own
    client.
    """
    facts = {
        "owner": record.owner,
        "tenant": record.tenant,
        "fleet": record.fleet,
        "host": record.name,
        "uuid": record.uuid,
        "address": record.address,
        "ssh_user": record.ssh_user,
        "ssh_port": str(record.ssh_port),
        "known_hosts": str(ctx.pki(record.tenant).known_hosts),
        "ssh_key": str(ctx.pki(record.tenant).ssh_key),
    }
    docker = access.describe_docker(record, str(ctx.pki(record.tenant).client_directory))
    return {
        **{f"STOCKYARD_{key.upper()}": value for key, value in facts.items()},
        **docker.environment,
    }


def _wait_for_containers(ctx: Context, record: HostRecord, grace: Deadline) -> None:
    """Wait until no container runs, or the time is up; either way the drain goes on."""
    context, reported = tls(ctx.pki(record.tenant).client(ctx.today())), False
    while True:
        try:
            names = running(
                record.address, context, min(LONGEST_ATTEMPT, max(grace.left(), SHORTEST_ATTEMPT))
            )
        except (OSError, http.client.HTTPException) as error:
            names = [f"? ({error})"]
        if not names:
            return
        if not reported:
            ctx.progress(
                f"{record.title}: waiting up to {grace.left():.0f} s for {', '.join(names[:5])}"
            )
            reported = True
        if grace.passed():
            ctx.progress(
                f"{record.title}: still running at the end of the wait: {', '.join(names[:5])}"
            )
            return
        grace.pause(POLL)
