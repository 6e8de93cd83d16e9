# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the reference of the command line from its commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockyard.cli.command import Argument, Command, Entry, Option, Parameter
from stockyard.cli.main import LINE

MARK = "<!-- The rest is written by make generate. -->\n"


def with_reference(page: str) -> str:
    """Return a page with the present reference after the mark."""
    head, mark, _old = page.partition(MARK)
    return f"{head}{mark}\n" + "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "### Options of the yard"
    yield ""
    yield "Every command that opens a yard has these options:"
    yield ""
    yield from _table(LINE.connection)
    for part in LINE.sections:
        for name, (_help, entry) in part.entries.items():
            yield from _entry(name, entry())


def _entry(name: str, entry: Entry) -> Iterator[str]:
    if isinstance(entry, Command):
        yield from _command(name, entry)
        return
    for command in entry.commands:
        yield from _entry(f"{name} {command.name}", command)


def _command(name: str, command: Command) -> Iterator[str]:
    own = [item for item in command.parameters if item not in LINE.connection]
    words = [_word(item) for item in own if isinstance(item, Argument)]
    yield ""
    yield f"### `{name}`"
    yield ""
    yield f"`{' '.join(['stockyard', name, *words])}`"
    yield ""
    yield f"{command.help[0].upper()}{command.help[1:]}."
    if command.text:
        yield ""
        yield command.text
    if own:
        yield ""
        yield from _table(own)


def _word(argument: Argument) -> str:
    name = f"{argument.metavar}…" if argument.many else argument.metavar
    return name if argument.required else f"[{name}]"


def _table(parameters: Sequence[Parameter]) -> Iterator[str]:
    yield "| option or argument | meaning |"
    yield "| --- | --- |"
    for item in parameters:
        name = _option(item) if isinstance(item, Option) else item.metavar
        yield f"| `{name}` | {item.help}{_facts(item)} |"


def _option(option: Option) -> str:
    names = f"{option.name}, {option.short}" if option.short else option.name
    return names if option.flag else f"{names} {option.metavar or option.field_name.upper()}"


def _facts(item: Parameter) -> str:
    facts = [f"one of {', '.join(item.choices)}"] if item.choices else []
    if isinstance(item, Option):
        facts += ["can be repeated"] if item.many else []
        facts += ["required"] if item.required else []
        if item.default not in ("", None):
            facts.append(f"default: {item.default}")
    return f" ({'; '.join(facts)})" if facts else ""
