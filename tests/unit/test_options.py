# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module options that are computed from dataclasses, and dataclasses from options."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from stockyard import InvalidInput
from stockyard.model import naming

MODULE = importlib.import_module("stockyard.declarations.options")
options, specification = MODULE.options, MODULE.specification


@dataclass(frozen=True)
class Wheel:
    """A nested declaration."""

    name: str
    inches: int = 26


@dataclass(frozen=True)
class Bicycle:
    """A declaration with a field of each type."""

    name: str
    colour: str = field(default="red", metadata={"choices": ("red", "blue")})
    gears: int = 1
    price: float = 9.5
    rented: bool = False
    bell: str | None = None
    stickers: tuple[str, ...] = ("logo",)
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    notes: dict[str, str] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    front: Wheel = field(default_factory=lambda: Wheel("front"))

    def __post_init__(self) -> None:
        naming.check_choices(self, "bicycle.")


WHEEL = {"name": {"type": "str", "required": True}, "inches": {"type": "int", "default": 26}}
OPTIONS = {
    "name": {"type": "str", "required": True},
    "colour": {"type": "str", "choices": ["red", "blue"], "default": "red"},
    "gears": {"type": "int", "default": 1},
    "price": {"type": "float", "default": 9.5},
    "rented": {"type": "bool", "default": False},
    "bell": {"type": "str"},
    "stickers": {"type": "list", "elements": "str", "default": ["logo"]},
    "wheels": {"type": "list", "elements": "dict", "default": [], "options": WHEEL},
    "spare": {"type": "dict", "options": WHEEL},
    "notes": {"type": "dict", "default": {}},
    "labels": {"type": "dict", "default": {}},
    "front": {"type": "dict", "options": WHEEL, "apply_defaults": True},
}


def test_options_have_type_default_and_choices_of_their_fields() -> None:
    assert options(Bicycle) == OPTIONS


def test_options_omit_fields_and_accept_other_facts() -> None:
    computed = options(Bicycle, "name", gears={"default": None}, price={"type": "str"})
    assert "name" not in computed
    assert computed["gears"] == {"type": "int"}
    assert computed["price"] == {"type": "str", "default": 9.5}


def test_unset_options_leave_the_defaults() -> None:
    params: dict[str, Any] = {"name": "a", "colour": None, "notes": {}, "spare": None}
    assert specification(Bicycle, params) == Bicycle("a")


def test_lists_and_mappings_become_tuples_and_dataclasses() -> None:
    params = {
        "name": "a",
        "stickers": ["x"],
        "wheels": [{"name": "rear", "inches": 28}],
        "front": {"name": "big", "inches": 50},
    }
    assert specification(Bicycle, params, gears=3) == Bicycle(
        "a", gears=3, stickers=("x",), wheels=(Wheel("rear", 28),), front=Wheel("big", 50)
    )


def test_word_outside_the_choices_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"bicycle\.colour"):
        specification(Bicycle, {"name": "a", "colour": "green"})
