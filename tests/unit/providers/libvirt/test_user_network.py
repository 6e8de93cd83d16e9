# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's user network, with this test in the place of the guest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[4]
SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@pytest.mark.skipif(
    not all(shutil.which(name, path=SEARCHED) for name in ("qemu-system-x86_64", "ip", "unshare")),
    reason="QEMU or iproute2 is not installed: run `make setup`",
)
def test_guest_answers_other_machines_and_reaches_nothing() -> None:
    argv = ["unshare", "--user", "--map-root-user", "--net", sys.executable]
    paths = (CHECKOUT / "plugins" / "module_utils", CHECKOUT)
    result = subprocess.run(
        [*argv, "-m", "tests.helpers.user_network_lab"],
        env={**os.environ, "PATH": SEARCHED, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "127.64.0.1": ["10.0.2.2", "answer"],
        "192.0.2.10": ["192.0.2.10", "answer"],
        "connection of the guest": "dropped",
    }
