# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests of certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard import (
    Yard,
)
from stockyard.pki.authority import Authority
from tests.helpers.certificates import Controllers
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider


@pytest.fixture
def controllers(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path
) -> Controllers:
    """Others than the one of ``yard``, whose home is ``pki``."""
    return Controllers(hypervisor, clock, tmp_path)


@pytest.fixture
def authority(yard: Yard) -> Authority:
    """The first controller's CA."""
    return yard.context.pki("default").authority(yard.context.today())
