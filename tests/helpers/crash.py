# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random instants of kills, and a check that a killed controller leaves nothing after a reap."""

from __future__ import annotations

import random
import time
from pathlib import Path

from stockyard import Yard
from tests.helpers.clocks import FakeClock

# Seconds after which every lease has expired, and every incomplete object counts as orphaned.
LATER = 7200.0


def instant(seed: int, longest: float) -> float:
    """Return a random number of seconds, the same for the same seed."""
    return random.Random(seed).uniform(0.0, longest)  # noqa: S311  # not secret


def check_nothing_is_left(folder: Path, pki: Path) -> None:
    """Reap later, and check that no lease, key, incomplete host or disk of a host is left.

    :param folder: the directory with the memory hypervisor ``hypervisor``.
    """
    uri = f"memory://{folder}/hypervisor"
    with Yard(uri, pki_dir=str(pki), clock=FakeClock(time.time() + LATER)) as yard:
        yard.reap()
        assert yard.leases.list() == ()
        result = yard.reap(dry_run=True)
        assert (result.plan.actions, result.objects) == ((), ())
        hosts, templates = yard.hosts.list(), yard.templates.list()
    assert [host.name for host in hosts if not host.ready] == []
    assert list(pki.rglob("leases/*")) == []
    disks = {path.stem for path in (folder / "hypervisor.d" / "disks").iterdir()}
    assert len(disks) == len(hosts) + len(templates)
