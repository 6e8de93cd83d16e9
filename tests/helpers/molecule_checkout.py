# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkouts of the sample role, and molecule at work in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
SAMPLE = CHECKOUT / "examples" / "role_sample"
PATIENCE = 600


class Checkout:
    """A copy of the sample role with its own name, home directory and hypervisor.

    :param variables: of the scenario's inventory, added to those of the sample.
    :param sample: the role, where it is another one; what its inventory says stays.
    """

    def __init__(
        self,
        root: Path,
        variables: dict[str, Any],
        name: str = "role_sample",
        sample: Path = SAMPLE,
        **environment: str,
    ) -> None:
        self.home = root / "home"
        self.role = root / name
        collection = root / "collections" / "ansible_collections" / "stockyard" / "container_hosts"
        collection.parent.mkdir(parents=True, exist_ok=True)
        if not collection.exists():
            collection.symlink_to(CHECKOUT)
        self.home.mkdir(exist_ok=True)
        shutil.copytree(sample, self.role)
        self.declare(
            {**self._declared(), **variables, "ansible_python_interpreter": "/usr/bin/python3"}
        )
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ANSIBLE_", "MOLECULE_", "STOCKYARD_"))
        }
        self.environment = {
            **inherited,
            # Where libvirt's session is stays as it is: it has the template.
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(root / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            # Where a runner says that it is one, molecule writes in colours.
            "NO_COLOR": "1",
            "ANSIBLE_TIMEOUT": "60",
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
            # a socket's path is short
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/cp-{os.getpid()}",  # noqa: S108
            **environment,
        }

    def declare(self, variables: dict[str, Any], hosts: tuple[str, ...] = ("debian",)) -> None:
        """Write the scenario's inventory."""
        declared = {"molecule": {"hosts": {host: {} for host in hosts}}, "all": {"vars": variables}}
        (self.role / "molecule" / "default" / "inventory" / "hosts.yml").write_text(
            json.dumps(declared)
        )

    def _declared(self) -> dict[str, Any]:
        """The variables that the scenario's own inventory has."""
        file = self.role / "molecule" / "default" / "inventory" / "hosts.yml"
        variables: dict[str, Any] = yaml.safe_load(file.read_text())["molecule"].get("vars", {})
        return variables

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start molecule, in a session of its own."""
        return subprocess.Popen(
            ["molecule", *arguments],
            cwd=self.role,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    def molecule(self, *arguments: str) -> tuple[int, str]:
        """Run molecule; return its exit code and output. An option that it ignores silently is a
        failure.
        """
        process = self.start(*arguments)
        output, _stderr = process.communicate(timeout=PATIENCE)
        assert "no hosts matched" not in output, output
        return process.returncode, output

    def ok(self, *arguments: str) -> str:
        """The same, and it has to end well."""
        code, output = self.molecule(*arguments)
        assert code == 0, output
        return output
