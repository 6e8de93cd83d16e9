# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the unit tests. `import stockyard` works because `make setup` puts the SDK's folder
on .venv's path.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import TemplateSpec, Yard
from stockyard.providers.open import open_provider
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout under test."""
    return Path(__file__).parents[2]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that is turned by hand."""
    return FakeClock()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A hypervisor of the test's own."""
    return f"memory://{tmp_path}/hypervisor"


@pytest.fixture
def hypervisor(uri: str) -> FaultyProvider:
    """The same, opened, and failing when told to."""
    return FaultyProvider(open_provider(uri))


@pytest.fixture
def bare(hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path) -> Iterator[Yard]:
    """A yard with nothing in it."""
    with Yard(
        provider=hypervisor.as_provider(), clock=clock, pki_dir=str(tmp_path / "pki")
    ) as opened:
        yield opened


@pytest.fixture
def yard(bare: Yard, hypervisor: FaultyProvider) -> Yard:
    """A yard with the template ``base``."""
    bare.templates.apply(TemplateSpec("base"))
    hypervisor.calls.clear()
    return bare
