# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place to run Ansible in: the checkout as an installed collection, an empty home, and a
hypervisor in a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
PATIENCE = 300


@dataclass
class Played:
    """The output and the results of a run of ansible-playbook."""

    returncode: int
    stdout: str
    stderr: str
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, task: str) -> dict[str, Any]:
        return self.results[task]

    @property
    def output(self) -> str:
        """Everything that was printed."""
        return self.stdout + self.stderr


class Controller:
    """A user's machine: home directory, collections, and the hypervisor that
    ``STOCKYARD_HYPERVISOR`` names.
    """

    patience = PATIENCE

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.state = root / "yard.json"
        collection = root / "collections" / "ansible_collections" / "stockyard" / "container_hosts"
        collection.parent.mkdir(parents=True)
        collection.symlink_to(CHECKOUT)
        self.home.mkdir()
        self.record = root / "record"

    @property
    def hypervisor(self) -> str:
        """The URI of this machine's hypervisor, empty at first."""
        return f"memory://{self.state}"

    @property
    def environment(self) -> dict[str, str]:
        """A clean one: nothing of the caller's Ansible or Python settings."""
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ANSIBLE_", "PYTHON", "STOCKYARD_", "XDG_"))
        }
        return {
            **inherited,
            "HOME": str(self.home),
            "PWD": str(self.home),
            "ANSIBLE_ASYNC_DIR": str(self.home / "jobs"),
            "ANSIBLE_PIPELINING": "True",
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(self.root / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "RECORD": str(self.record),
            "STOCKYARD_HYPERVISOR": self.hypervisor,
        }

    def run(self, *arguments: str | Path) -> Played:
        """Run ansible-playbook to its end."""
        self.record.unlink(missing_ok=True)
        result = subprocess.run(
            ["ansible-playbook", *map(str, arguments)],
            check=False,
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.patience,
        )
        return Played(result.returncode, result.stdout, result.stderr, self._recorded())

    def play(self, tasks: Sequence[dict[str, Any]], *arguments: str, **keywords: Any) -> Played:
        """Run tasks in one play on localhost; those that fail are recorded and do not end it."""
        return self.run(self.write(tasks, **keywords), *arguments)

    def write(self, tasks: Sequence[dict[str, Any]], **keywords: Any) -> Path:
        """The playbook that :meth:`play` runs. JSON is YAML."""
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "ignore_errors": True,
            "tasks": tasks,
            **keywords,
        }
        path = self.root / "playbook.yml"
        path.write_text(json.dumps([play]))
        return path

    def _recorded(self) -> dict[str, dict[str, Any]]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return {entry["task"]: entry["result"] for entry in map(json.loads, lines)}


def task(
    title: str, module: str, keywords: dict[str, Any] | None = None, /, **options: Any
) -> dict[str, Any]:
    """A task that calls a module of this collection."""
    return {"name": title, f"stockyard.container_hosts.{module}": options, **(keywords or {})}


def checksum(name: str, path: Path) -> dict[str, Any]:
    """A task that records the checksum of a file."""
    return {"name": name, "ansible.builtin.stat": {"path": str(path)}}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """One for all tests of a file."""
    return Controller(tmp_path_factory.mktemp("controller"))
