# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Console logs of machines that failed: kept when the machine is taken away, the newest few of
them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = 20


def keep(console: Path, logs: Path, name: str) -> str:
    """Copy a console log to where it outlives its machine.

    :return: where it is now; empty when there is none, or it cannot be kept.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = logs / f"{name}.log"
        shutil.copyfile(console, target)
        for old in sorted(logs.glob("*.log"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return ""
    return str(target)
