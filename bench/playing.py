# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine of a user with Ansible and a memory hypervisor, for plays that are measured."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from stockyard import Yard
from stockyard.hypervisor.records import encode
from stockyard.model.host import Identity
from stockyard.providers.memory.provider import MemoryProvider
from stockyard.providers.memory.state import Machine
from tests.helpers.clocks import BriskClock
from tests.helpers.samples import host_record
from tests.integration.conftest import Controller

PING = {"name": "A task of a module that does nothing", "ansible.builtin.ping": {}}
DEBUG = {"name": "A task that does nothing", "ansible.builtin.debug": {"msg": ""}}
# Tasks with this prefix run a module in a separate process.
OURS = "stockyard.container_hosts."


class Player(Controller):
    """Machine of a user, with methods that run and time plays."""

    def yard(self) -> Yard:
        """Open the same yard through the SDK."""
        return Yard(
            self.hypervisor, pki_dir=str(self.home / ".config" / "stockyard"), clock=BriskClock()
        )

    def seconds(self, *arguments: str | Path) -> float:
        """Return the seconds of a playbook.

        :raises RuntimeError: if the playbook fails.
        """
        begin = time.monotonic()
        process = self.run(*arguments)
        duration = time.monotonic() - begin
        if process.returncode:
            raise RuntimeError(process.output[-2000:])
        return duration

    def empty(self, tasks: Sequence[dict[str, Any]]) -> Path:
        """Write a playbook with the given tasks and return its path."""
        path = self.root / f"empty-{len(tasks)}.yml"
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}])
        )
        return path

    def inventory_seconds(self, count: int) -> float:
        """Return the seconds of ``ansible-inventory`` for a yard with so many hosts."""
        path = self.home / f"many-{count}.stockyard.yml"
        content = {
            "plugin": "stockyard.container_hosts.hosts",
            "hypervisor": f"memory://{self.root}/many-{count}",
        }
        path.write_text(json.dumps(content))
        begin = time.monotonic()
        process = subprocess.run(
            ["ansible-inventory", "-i", str(path), "--list"],
            cwd=self.home,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        duration = time.monotonic() - begin
        if len(json.loads(process.stdout)["_meta"]["hostvars"]) != count:
            raise RuntimeError(process.stderr[-2000:])
        return duration

    def fill(self, count: int) -> None:
        """Write the records of so many hosts, without creating the hosts."""
        path = self.root / f"many-{count}"
        provider = MemoryProvider(f"memory://{path}", path)
        identity = Identity("0" * 32, f"ssh-ed25519 {'A' * 68}", "1", 2e9, leasable=True)
        with provider.state.change() as machines:
            for number in range(1, count + 1):
                record = replace(
                    host_record(name=f"ci-{number}", identity=identity),
                    labels={"number": str(number % 7)},
                )
                machines[record.domain] = Machine(encode(record), state="running")


@contextmanager
def player() -> Iterator[Player]:
    """Yield a user's machine, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Player(Path(folder))
