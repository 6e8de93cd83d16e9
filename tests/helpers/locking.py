# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks for tests that have no other process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def unlocked() -> AbstractContextManager[Any]:
    """Return a lock that is always free."""
    return nullcontext(())
