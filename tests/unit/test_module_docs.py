# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of modules, and the files that are generated from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import generate, plain_yaml, returns

ROOT = Path(__file__).parents[2]
VERBS = ("Manage", "Create", "List", "Return", "Run", "Attach")
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


def documentation(path: Path) -> dict[str, Any]:
    """Read the block DOCUMENTATION of a plugin."""
    block = re.search(
        r'DOCUMENTATION = r"""\n(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL
    )
    assert block, path
    return dict(yaml.safe_load(block[1]))


@pytest.mark.parametrize("module", MODULES)
def test_short_description_of_a_module_starts_with_an_action(module: str) -> None:
    short = documentation(ROOT / f"plugins/modules/{module}.py")["short_description"]
    assert short.split()[0] in VERBS
    assert not short.endswith(".")


def test_generated_texts_are_up_to_date() -> None:
    changes = [generate.difference(path, text) for path, text in generate.outdated().items()]
    assert not changes, "\n".join(["run: make generate", *changes])


def test_option_has_type_and_choices_of_its_argument_spec() -> None:
    documented = {"mode": {"description": "The mode.", "type": "int", "choices": ["old"]}}
    spec = {"mode": {"type": "str", "choices": ["a", "b"], "default": "a", "no_log": False}}
    assert generate.completed(documented, spec) == {
        "mode": {"description": "The mode.", "type": "str", "choices": ["a", "b"], "default": "a"}
    }


def test_option_without_description_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {**generate.argument_spec("pool"), "colour": {"type": "str"}}
    monkeypatch.setattr(generate, "argument_spec", lambda module: spec)
    with pytest.raises(returns.MissingTextError, match="Module pool: colour"):
        generate.documented("pool")


@pytest.mark.parametrize(
    ("module_text", "role_text"),
    [
        ("Requires O(egress=proxy).", "Requires C(egress=proxy)."),
        ("Uses O(pki_dir) and RV(ignore:mode).", "Uses C(yard_pki_dir) and C(mode)."),
        ("V(none) and C(text) stay.", "V(none) and C(text) stay."),
    ],
)
def test_references_of_an_item_are_those_of_the_role(module_text: str, role_text: str) -> None:
    assert generate.with_references(module_text, "C") == role_text


@pytest.mark.parametrize("text", ["plain", "a: b", "- a", "yes", "12", "", "{{ a }}", "[a", "a #b"])
def test_text_survives_the_yaml_layout(text: str) -> None:
    entry = {"name": {"description": [text, f"{text} " * 40 + "end"], "default": text}}
    assert yaml.safe_load(plain_yaml.entries(entry, 0)) == {
        "name": {"description": [text, f"{text} " * 40 + "end"], "default": text}
    }


@dataclass(frozen=True)
class Wheel:
    """A nested object.

    :param inches: the size, in inches.
    """

    inches: int


@dataclass(frozen=True)
class Bicycle:
    """An object.

    :param name: the name of the bicycle,
        in one line.
    :param colour: the colour: ``red`` or ``/path``. ``None`` if it is not known.
    :param wheels: the wheels; see :class:`Wheel`.
    :param motor: the motor. Only on libvirt.
    """

    name: str
    colour: str | None
    wheels: tuple[Wheel, ...]
    motor: dict[str, str] | None = None


@dataclass(frozen=True)
class Nameless:
    """An object whose field has no text."""

    name: str


def test_results_have_type_text_and_sample_of_their_fields() -> None:
    samples = {"name": "mine", "wheels": [{"inches": 26}]}
    wheel = {"inches": {"description": "The size, in inches.", "type": "int", "sample": 26}}
    assert returns.contains(Bicycle, samples, set()) == {
        "name": {
            "description": "The name of the bicycle, in one line.",
            "type": "str",
            "sample": "mine",
        },
        "colour": {
            "description": "The colour: V(red) or C(/path). Null if it is not known.",
            "type": "str",
        },
        "wheels": {
            "description": "The wheels.",
            "type": "list",
            "elements": "dict",
            "contains": wheel,
        },
        "motor": {"description": "The motor.", "returned": "on libvirt", "type": "dict"},
    }


def test_result_without_text_is_an_error() -> None:
    with pytest.raises(returns.MissingTextError, match="Nameless: name"):
        returns.contains(Nameless, {}, set())
