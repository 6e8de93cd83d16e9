# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts that no user needs: no lease, no running container, and no event of Docker for some
time.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ...errors import StockyardError
from ...model.host import Host, HostRecord
from ..context import Context
from ..guest_status import LIMIT
from .docker_api import tls, was_used

ATTEMPT = 5.0
AT_ONCE = 16


def idle(ctx: Context, tenant: str, hosts: Iterable[Host], duration: float) -> list[Host]:
    """Return the running hosts that were not used for a duration. A host that was created, started
    or resumed since then counts as used, and so does one that does not answer. A progress line
    names each host that could not be examined.

    :param duration: seconds; no host is idle if 0.
    """
    if not (
        duration and ctx.provider.capabilities.suspends and ctx.provider.capabilities.endpoints
    ):
        return []
    # The guest's clock can be a little behind.
    until = ctx.clock.now() - LIMIT
    since = until - duration
    candidates = [
        host
        for host in hosts
        if host.serving
        and host.record.lease is None
        and max(host.record.created, host.record.awake_since) <= since
    ]
    if not candidates:
        return []
    certificates = ctx.pki(tenant).client_directory
    try:
        context = tls(certificates)
    except (OSError, StockyardError) as error:
        names = ", ".join(sorted(host.record.name for host in candidates))
        ctx.progress(
            f"warning: idle hosts are not suspended, because the certificate in {certificates} "
            f"cannot be used: {error}. Not examined: {names}"
        )
        return []

    def used(record: HostRecord) -> bool:
        try:
            return was_used(record.address, context, since, until, ATTEMPT)
        except (OSError, http.client.HTTPException) as error:
            ctx.progress(
                f"{record.title}: warning: not examined for a suspension, because Docker does not "
                f"answer: {error}"
            )
            return True

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = list(pool.map(lambda host: used(host.record), candidates))
    return [host for host, answer in zip(candidates, answers, strict=True) if not answer]
