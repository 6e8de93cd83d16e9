# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU that dies at the very moment in which it is ended: an empty machine, since nothing in it
matters.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from stockyard import Yard
from stockyard.providers.libvirt import power, processes

pytestmark = pytest.mark.real
UUID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "power.stockyard.test"))
XML = f"""<domain type="qemu"><name>stockyard-test-power</name><uuid>{UUID}</uuid>
<memory unit="MiB">32</memory>
<os><type arch="x86_64" machine="pc">hvm</type></os></domain>"""


@pytest.fixture
def domain(yard: Yard) -> Iterator[Any]:
    import libvirt

    provider: Any = yard.context.provider
    domain = provider.connection.defineXML(XML)
    # One that a killed run left may be there.
    power.off(domain, "host racer")
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    yield domain
    power.off(domain, "host racer")
    domain.undefine()


@pytest.mark.parametrize("later", [0.0, 0.002, 0.02])
def test_a_machine_whose_qemu_was_killed_is_ended(domain: Any, later: float) -> None:
    os.kill(processes.running()[UUID], signal.SIGKILL)
    time.sleep(later)
    power.off(domain, "host racer")
    assert not domain.isActive()
