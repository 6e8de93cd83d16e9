# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.running_daemon import Running


@pytest.fixture
def daemon(uri: str, tmp_path: Path) -> Iterator[Running]:
    """A daemon that is not started yet."""
    running = Running(uri, tmp_path)
    yield running
    running.kill()
