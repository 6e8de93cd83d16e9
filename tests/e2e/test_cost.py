# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of a fork until it is ready, counted: independent of the machine's speed. `make bench`
measures times.

The work of the guest is read through QEMU's guest agent, which runs since before the freeze and
spawns nothing for it. It is held against a fork that was resumed and left alone.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, SingleSpec, TemplateInfo, Yard
from stockyard.clock import Deadline
from tests.contract.conftest import Drafts
from tests.helpers.values import present

pytestmark = pytest.mark.real
SECTOR = 512
# libvirt handles what QEMU tells of agents one after another, for all machines: a busy one holds up
# the others.
PATIENCE = 120.0
PROCESSES, WRITTEN_MIB, OVERLAY_MIB, OWN_MIB = 8, 1.0, 4.0, 32.0


@dataclass(frozen=True)
class Done:
    """The work of a guest since its boot.

    :param processes: that it spawned, threads too.
    :param written: bytes to its disk.
    """

    processes: int
    written: int


def ask(domain: Any, execute: str, **arguments: Any) -> Any:
    """One command of the guest agent's. QEMU tells libvirt a moment after a resume that the agent
    is connected.
    """
    import libvirt
    import libvirt_qemu

    text = json.dumps({"execute": execute, "arguments": arguments})
    deadline = Deadline(PATIENCE)
    while True:
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(domain, text, 60, 0))["return"]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_AGENT_UNRESPONSIVE or deadline.passed():
                raise
            time.sleep(0.05)


def content(domain: Any, path: str) -> str:
    """A file of the guest's."""
    handle = ask(domain, "guest-file-open", path=path, mode="r")
    try:
        return base64.b64decode(
            ask(domain, "guest-file-read", handle=handle, count=1 << 16)["buf-b64"]
        ).decode()
    finally:
        ask(domain, "guest-file-close", handle=handle)


def done(yard: Yard, uuid: str) -> Done:
    """Read the work of a running guest (proc(5))."""
    # libvirt's
    domain = yard.context.provider.connection.lookupByUUIDString(uuid)  # type: ignore[attr-defined]
    spawned = next(
        line for line in content(domain, "/proc/stat").splitlines() if line.startswith("processes ")
    )
    disk = next(
        line.split() for line in content(domain, "/proc/diskstats").splitlines() if " vda " in line
    )
    return Done(int(spawned.split()[1]), int(disk[9]) * SECTOR)


@dataclass(frozen=True)
class Fresh:
    """A new host.

    :param before: the work of a fork to which no client spoke.
    :param after: what the host had done when it was ready.
    """

    host: HostInfo
    before: Done
    after: Done


@pytest.fixture(scope="module")
def fresh(yard: Yard, template: TemplateInfo) -> Iterator[Fresh]:
    """Both of one template."""
    provider = yard.context.provider
    (record,) = [
        t.record
        for t in provider.observe(yard.context.owner).templates
        if t.record.uuid == template.uuid
    ]
    drafts = Drafts(provider, record)
    try:
        alone = done(yard, drafts.forked(Deadline(120)).uuid)
    finally:
        drafts.clean()
    (host,) = yard.hosts.apply(SingleSpec("fresh", template.name)).objects
    yield Fresh(host, alone, done(yard, host.uuid))
    yard.hosts.delete("fresh")


def test_hardly_anything_is_spawned_in_a_fork(fresh: Fresh) -> None:
    """The necessary processes ran before the freeze."""
    spawned = fresh.after.processes - fresh.before.processes
    print(f"spawned until ready: {spawned}")
    assert spawned <= PROCESSES


def test_hardly_anything_is_written_by_a_fork(fresh: Fresh) -> None:
    written = (fresh.after.written - fresh.before.written) / (1 << 20)
    overlay = (
        Path(present(fresh.host.console_log)).with_name("disk.qcow2").stat().st_blocks
        * SECTOR
        / (1 << 20)
    )
    print(f"written until ready: {written:.2f} MiB; the overlay takes {overlay:.2f} MiB")
    assert written <= WRITTEN_MIB
    assert overlay <= OVERLAY_MIB


def test_few_pages_are_dirtied_by_a_fork(fresh: Fresh) -> None:
    memory = present(fresh.host.memory)
    print(f"RAM of its own when ready: {memory.private_mib} MiB; shared: {memory.shared_mib} MiB")
    assert memory.private_mib <= OWN_MIB
