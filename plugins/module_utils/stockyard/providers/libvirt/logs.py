# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Console logs of failed machines: copied when a machine is deleted, the newest few are
retained.
"""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = 20


def copy_console(console: Path, logs: Path, name: str) -> str:
    """Copy a console log to a directory that outlives its machine.

    :return: the path of the copy; empty if there is no log, or it cannot be copied.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = logs / f"{name}.log"
        shutil.copyfile(console, target)
        for expired_log in sorted(logs.glob("*.log"), key=lambda log: log.stat().st_mtime)[:-KEPT]:
            expired_log.unlink(missing_ok=True)
    except OSError:
        return ""
    return str(target)
