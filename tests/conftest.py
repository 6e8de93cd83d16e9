# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from tests.e2e import prepare

set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "cache" / "hypothesis")
# No deadline: a loaded machine is not a bug. Failures print the line that replays them.
hypothesis.settings.register_profile("stockyard", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.load_profile("stockyard")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need no guest first: meanwhile the template of the others is built."""
    items.sort(key=_real)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build it where it will be needed, and something can be done meanwhile."""
    if not session.config.option.collectonly and {_real(item) for item in session.items} == {True, False}:
        prepare.start(sorted({item.module.__name__ for item in session.items if _real(item)}))


def pytest_sessionfinish() -> None:
    """Leave nothing running."""
    prepare.stop()


def _real(item: pytest.Item) -> bool:
    return item.get_closest_marker("real") is not None
