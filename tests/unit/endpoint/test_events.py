# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of events, as Docker applies them."""

from __future__ import annotations

import pytest

from stockyard.endpoint.events import engine_event, matches

EVENT = engine_event("container", "start", "c0ffee", {"name": "web", "project": "shop", "ci": "7"})


@pytest.mark.parametrize(
    ("filters", "met"),
    [
        ({}, True),
        ({"event": ["die", "start"]}, True),
        ({"container": ["web", "other"]}, True),
        ({"label": ["project=shop", "ci"]}, True),
        ({"label": ["project=shop", "ci=8"]}, False),
        ({"label": ["project=shop", "service"]}, False),
        ({"type": ["image"]}, False),
    ],
)
def test_an_event_has_all_labels_of_a_filter_and_one_of_its_other_values(
    filters: dict[str, list[str]], met: bool
) -> None:
    assert matches(EVENT, filters) is met
