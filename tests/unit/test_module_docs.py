# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of modules and of the role yard: short descriptions, and sentences that both
share.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VERBS = ("Manage", "Create", "List", "Return", "Run", "Attach")
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
# Options that several kinds of objects share, or that the role describes as a whole.
COMMON = {"name", "state", "tenant", "timeout", "hypervisors", "security"}
KINDS = {
    "yard_templates": "template",
    "yard_volumes": "volume",
    "yard_fleets": "fleet",
    "yard_pools": "pool",
}


def documentation(path: Path) -> dict[str, Any]:
    """Read the block DOCUMENTATION of a plugin."""
    block = re.search(
        r'DOCUMENTATION = r"""\n(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL
    )
    assert block, path
    return dict(yaml.safe_load(block[1]))


def options_of(module: str) -> dict[str, Any]:
    """Return the options of a module together with those of its fragments."""
    own = documentation(ROOT / f"plugins/modules/{module}.py")
    names = [name.rpartition(".")[2] for name in own["extends_documentation_fragment"]]
    fragments = [
        documentation(ROOT / f"plugins/doc_fragments/{name}.py")["options"] for name in names
    ]
    options: dict[str, Any] = {}
    for fragment in [*fragments, own["options"]]:
        options.update(fragment)
    return options


def sentences(option: dict[str, Any]) -> list[str]:
    """Return the paragraphs of an option, with references to options written as code."""
    text = option["description"]
    paragraphs = [text] if isinstance(text, str) else text
    return [
        re.sub(r"\b(?:O|RV)\((?:ignore:)?([^)]*)\)", r"C(\1)", paragraph)
        for paragraph in paragraphs
    ]


def differing(role: dict[str, Any], module: dict[str, Any], where: str) -> list[str]:
    """Return the options of the role whose paragraphs the module does not have."""
    names: list[str] = []
    for name, option in role.items():
        if name in COMMON:
            continue
        if not set(sentences(option)) <= set(sentences(module[name])):
            names.append(f"{where}.{name}")
        names += differing(
            option.get("options", {}), module[name].get("suboptions", {}), f"{where}.{name}"
        )
    return names


@pytest.mark.parametrize("module", MODULES)
def test_short_description_of_a_module_starts_with_an_action(module: str) -> None:
    short = documentation(ROOT / f"plugins/modules/{module}.py")["short_description"]
    assert short.split()[0] in VERBS
    assert not short.endswith(".")


@pytest.mark.parametrize("variable", sorted(KINDS))
def test_item_of_a_yard_variable_has_the_same_sentences_as_its_module(variable: str) -> None:
    specs = yaml.safe_load(
        (ROOT / "roles/yard/meta/argument_specs.yml").read_text(encoding="utf-8")
    )
    items = specs["argument_specs"]["main"]["options"][variable]["options"]
    assert differing(items, options_of(KINDS[variable]), variable) == []
