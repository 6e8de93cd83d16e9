# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors: one hierarchy, drawn as it is, and messages that say what, why and what to do."""

from __future__ import annotations

import inspect

from stockyard import errors
from stockyard.errors import Busy, Conflict, StockyardError


def test_the_tree_in_the_docstring_is_the_hierarchy() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("│├└─ ").split(" ")[0].strip()
        if name not in vars(errors):
            continue
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4 - 1
        path = [*path[:depth], name]
        if depth:
            drawn[name] = path[depth - 1]
    real = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, StockyardError) and kind is not StockyardError
    }
    assert drawn == real


def test_a_message_names_the_object_the_cause_and_the_remedy() -> None:
    error = Busy("somebody works on it.", name="fleet ci", cause="a lock", remedy="wait.")
    assert str(error) == "fleet ci: somebody works on it. Cause: a lock. Remedy: wait."
    assert isinstance(error, Conflict)


def test_what_is_not_known_is_left_out() -> None:
    assert str(StockyardError("It failed.")) == "It failed."
