# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's machine with Ansible on it and a memory hypervisor, for plays that are timed."""

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
from tests.integration.conftest import Controller
from tests.support import BriskClock, host_record

PING = {"name": "A task of a module that does nothing", "ansible.builtin.ping": {}}
DEBUG = {"name": "A task that does nothing", "ansible.builtin.debug": {"msg": ""}}
# Tasks of these run a module in a process of its own.
OURS = "stockyard.container_hosts."


class Player(Controller):
    """Runs plays as a user does, and takes the time."""

    def yard(self) -> Yard:
        """The same yard, through the SDK."""
        return Yard(
            self.hypervisor, pki_dir=str(self.home / ".config" / "stockyard"), clock=BriskClock()
        )

    def seconds(self, *arguments: str | Path) -> float:
        """How long a playbook takes.

        :raises RuntimeError: when it does not end well.
        """
        begin = time.monotonic()
        played = self.run(*arguments)
        took = time.monotonic() - begin
        if played.returncode:
            raise RuntimeError(played.output[-2000:])
        return took

    def empty(self, tasks: Sequence[dict[str, Any]]) -> Path:
        """A playbook of such tasks, in a file of its own."""
        path = self.root / f"empty-{len(tasks)}.yml"
        path.write_text(
            json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}])
        )
        return path

    def inventory_seconds(self, count: int) -> float:
        """How long ``ansible-inventory`` takes for a yard of so many hosts."""
        path = self.home / f"many-{count}.stockyard.yml"
        content = {
            "plugin": "stockyard.container_hosts.hosts",
            "hypervisor": f"memory://{self.root}/many-{count}",
        }
        path.write_text(json.dumps(content))
        begin = time.monotonic()
        done = subprocess.run(
            ["ansible-inventory", "-i", str(path), "--list"],
            cwd=self.home,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        took = time.monotonic() - begin
        if len(json.loads(done.stdout)["_meta"]["hostvars"]) != count:
            raise RuntimeError(done.stderr[-2000:])
        return took

    def fill(self, count: int) -> None:
        """Put so many hosts on record without making them."""
        path = self.root / f"many-{count}"
        provider = MemoryProvider(f"memory://{path}", path)
        own = Identity("0" * 32, f"ssh-ed25519 {'A' * 68}", "1", 2e9, leasable=True)
        with provider.state.change() as machines:
            for number in range(1, count + 1):
                record = replace(
                    host_record(name=f"ci-{number}", identity=own),
                    labels={"number": str(number % 7)},
                )
                machines[record.domain] = Machine(encode(record), state="running")


@contextmanager
def player() -> Iterator[Player]:
    """A user's machine, thrown away afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Player(Path(folder))
