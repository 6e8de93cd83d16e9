# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors: one hierarchy, drawn as it is, and messages that say what, why and what to do."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import errors
from stockyard.errors import Busy, Conflict, StockyardError

SDK = Path(errors.__file__).parent
# Words that only users of Ansible have a use for: the console command and programs show the same
# errors.
ANSIBLE = re.compile(
    r"\b(the|run|a) module\b|ansible_|\bhosts: |\bthe play\b|"
    r"\bthe option\b|playbooks/|\byard_|--extra-vars"
)


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
    error = Busy("another controller works on it.", name="fleet ci", cause="a lock", remedy="wait.")
    assert str(error) == "fleet ci: another controller works on it. Cause: a lock. Remedy: wait."
    assert isinstance(error, Conflict)


def test_unknown_parts_of_an_error_are_omitted() -> None:
    assert str(StockyardError("It failed.")) == "It failed."


def test_error_for_several_has_all_causes_and_each_remedy_once() -> None:
    error = errors.joined(
        "3 parts failed.",
        [
            Busy("it is locked.", name="host a", remedy="wait."),
            Busy("it is locked.", name="host b", cause="a lock", remedy="wait"),
            Conflict("it changed.", remedy="run again"),
            ValueError("odd"),
        ],
        "fleet ci",
    )
    assert str(error) == (
        "fleet ci: 3 parts failed. Cause: host a: it is locked.; host b: it is locked. Cause: a "
        "lock.; it changed.; odd. Remedy: wait; run again."
    )


def remedies(path: Path) -> Iterator[str]:
    """Return the text of every remedy in a file, but for the values in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        for value in (k.value for k in getattr(node, "keywords", ()) if k.arg == "remedy"):
            parts = [
                n.value
                for n in ast.walk(value)
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
            yield "".join(parts)


@pytest.mark.parametrize(
    "package", sorted(p.name for p in SDK.iterdir() if p.is_dir() or p.suffix == ".py")
)
def test_remedy_in_the_sdk_names_nothing_of_ansible(package: str) -> None:
    paths = [SDK / package, *(SDK / package).rglob("*.py")]
    texts = [text for path in paths if path.suffix == ".py" for text in remedies(path)]
    # The kernel has modules too.
    assert [text for text in texts if ANSIBLE.search(text.replace("the kvm module", ""))] == []
