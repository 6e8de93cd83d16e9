# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's monitor (QMP) through libvirt: commands for which libvirt itself has no call."""

from __future__ import annotations

import json
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError
from ...model import untrusted
from .faults import translated

POLL = 0.005


class Monitor:
    """QMP of one running domain.

    :param domain: a ``libvirt.virDomain``.
    """

    def __init__(self, domain: Any, name: str) -> None:
        self.domain = domain
        self.name = name

    def command(self, execute: str, files: list[int] | None = None, **arguments: Any) -> Any:
        """Run one command; return its result.

        :param files: descriptors that are passed with the command (``getfd``).
        """
        import libvirt_qemu

        text = json.dumps(
            {"execute": execute, "arguments": arguments} if arguments else {"execute": execute}
        )
        with translated(f"run QEMU's command {execute}", self.name):
            if files:
                answer, _files = libvirt_qemu.qemuMonitorCommandWithFiles(
                    self.domain, text, files, 0
                )
            else:
                answer = libvirt_qemu.qemuMonitorCommand(self.domain, text, 0)
        try:
            reply = untrusted.mapping(untrusted.parse(answer), "the answer")
        except untrusted.MalformedData as error:
            raise HypervisorError(
                f"QEMU's answer to {execute} is not valid.", name=self.name, cause=str(error)
            ) from error
        if "error" in reply:
            raise HypervisorError(
                f"QEMU refused {execute}.", name=self.name, cause=_description(reply["error"])
            )
        return reply.get("return")

    def set_link(self, nic: str, up: bool) -> None:
        """Connect or cut a network device's link."""
        self.command("set_link", name=nic, up=up)
        if up:
            # The guest announces its address; otherwise the first packet to it waits for ARP, and
            # after a lost packet for seconds.
            self.command("announce-self", initial=20, max=200, rounds=3, step=60)

    def leave_out_ram(self, state: bool) -> None:
        """Exclude RAM that is a file from migration streams, or include it again.

        libvirt's own saves need it to be included.
        """
        self.command(
            "migrate-set-capabilities",
            capabilities=[{"capability": "x-ignore-shared", "state": state}],
        )

    def pass_file(self, descriptor: int, label: str) -> None:
        """Pass an open file to QEMU under a name."""
        self.command("getfd", [descriptor], fdname=label)

    def migrated(self, deadline: Deadline) -> None:
        """Wait until the current migration is complete."""
        while True:
            status = self.command("query-migrate").get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise HypervisorError(f"the migration stream {status}.", name=self.name)
            deadline.check("the migration stream", name=self.name)
            deadline.pause(POLL)


def _description(error: Any) -> str:
    return str(error.get("desc", "")) if isinstance(error, dict) else str(error)
