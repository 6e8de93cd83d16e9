# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML of documentation in one layout: lines of at most 100 columns, paragraphs as lists."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

WIDTH = 100
# Keys whose value is a mapping of names to entries.
NESTED = ("options", "suboptions", "contains", "argument_specs")


def entries(named: Mapping[str, Mapping[str, Any]], indent: int) -> str:
    """Return entries by name, such as options, each with its keys in their order."""
    margin = " " * indent
    return "".join(
        f"{margin}{name}:\n" + "".join(_key(key, entry[key], indent + 2) for key in entry)
        for name, entry in named.items()
    )


def paragraphs(description: str | list[str]) -> list[str]:
    """Return the paragraphs of a description."""
    return [description] if isinstance(description, str) else list(description)


def _key(key: str, value: Any, indent: int) -> str:
    """Return one key of an entry."""
    margin = " " * indent
    if key in NESTED:
        return f"{margin}{key}:\n{entries(value, indent + 2)}"
    if key == "description":
        texts = paragraphs(value)
        line = f"{margin}{key}: {_quoted(texts[0])}"
        if len(texts) == 1 and len(line) <= WIDTH:
            return f"{line}\n"
        return f"{margin}{key}:\n" + "".join(_item(text, indent + 2) for text in texts)
    line = f"{margin}{key}: {flow(value)}"
    if isinstance(value, str) and len(line) > WIDTH and " " in value:
        return f"{margin}{key}: >-\n{_wrapped(value, margin + '  ', margin + '  ')}"
    if len(line) <= WIDTH or not isinstance(value, dict | list):
        return f"{line}\n"
    return f"{margin}{key}:\n{textwrap.indent(_block(value), margin + '  ')}"


def _item(text: str, indent: int) -> str:
    """Return one paragraph as an item of a list."""
    margin = " " * indent
    return _wrapped(_quoted(text), f"{margin}- ", f"{margin}  ")


def _wrapped(text: str, first: str, margin: str) -> str:
    """Return text in lines.

    :param first: the beginning of the first line.
    :param margin: the beginning of the other lines.
    """
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def _block(value: Any) -> str:
    """Return a mapping or a list with one line for each item."""
    if isinstance(value, dict):
        return "".join(f"{name}: {flow(item)}\n" for name, item in value.items())
    texts = [_block(item) if isinstance(item, dict) else f"{flow(item)}\n" for item in value]
    return "".join(f"- {textwrap.indent(text, '  ')[2:]}" for text in texts)


def flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """Return a string, in quotes if YAML would read another value without them."""
    try:
        if yaml.safe_load(f"[{text}]") == [text] and yaml.safe_load(f"- {text}") == [text]:
            return text
    except yaml.YAMLError:
        pass
    try:
        plain = len(text.split()) > 1 and yaml.safe_load(f"- {text}") == [text]
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
