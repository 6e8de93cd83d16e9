# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the console command says: answers on standard output, all else on standard error."""

from __future__ import annotations

import sys


def out(line: str) -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def err(line: str) -> None:
    """A line for whoever watches."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
