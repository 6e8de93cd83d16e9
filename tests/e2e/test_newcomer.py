# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newcomer's hour, typed on real forks: its files, and its commands but those of the checkout's
own set-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stockyard import Yard
from tests.helpers.documented_commands import CHECKOUT, steps

from .conftest import WORK

pytestmark = [pytest.mark.real, pytest.mark.full]
OWNER = "newcomer"
SETUP = ("make ", "source ", "ansible-galaxy ")


def test_the_hour(yard: Yard, tmp_path: Path) -> None:
    """A yard of its own, in the store of the others: the image is at hand where the packages are
    the same.
    """
    place = tmp_path / "collections" / "ansible_collections" / "stockyard"
    place.mkdir(parents=True)
    (place / "container_hosts").symlink_to(CHECKOUT)
    where: dict[str, Any] = {"storage": str(WORK / "store"), "pki_dir": str(tmp_path / "pki")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PWD": str(tmp_path),
        "STOCKYARD_OWNER": OWNER,
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        # a socket's path is short
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/cp-{os.getpid()}",  # noqa: S108
    }
    output = ""
    with Yard("qemu:///session", owner=OWNER, **where) as own:
        try:
            for name, text in steps(CHECKOUT / "docs" / "newcomers-hour.md"):
                if name:
                    more = where if name == "web.stockyard.yml" else {}
                    more = (
                        {f"yard_{k}": v for k, v in where.items()} if name == "yard.yml" else more
                    )
                    (tmp_path / name).write_text(text + (yaml.safe_dump(more) if more else ""))
                elif not text.startswith(SETUP):
                    result = subprocess.run(
                        ["bash", "-c", text],
                        cwd=tmp_path,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        text=True,
                        timeout=1200,
                        check=False,
                    )
                    assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
                    output += result.stdout
            assert [f"Hello from web-{n}" in output for n in (1, 2, 3)] == [True] * 3
            assert own.hosts.list() == ()
            assert own.templates.list() == ()
        finally:
            own.teardown(templates=True)
