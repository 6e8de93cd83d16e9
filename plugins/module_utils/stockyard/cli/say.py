# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of the console command: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from ..escaping import one_line


def out(line: str) -> None:
    """Write a line of the result; control characters of terminals are escaped."""
    _write(one_line(line))


def data(value: Any) -> None:
    """Write a result as JSON, in ASCII."""
    _write(json.dumps(value, indent=1))


def shell(line: str) -> None:
    """Write a line for a shell: it is quoted for that, and must arrive unchanged."""
    _write(line)


def err(line: str) -> None:
    """Write a line for the user; control characters of terminals are escaped."""
    sys.stderr.write(f"{one_line(line)}\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
