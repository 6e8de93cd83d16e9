# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as values: names, help, options and the function to run.

:mod:`.parse` turns these values into a parser. The reference of the documentation is generated from
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TypeAlias

from ..errors import InvalidInput

Options = SimpleNamespace


@dataclass(frozen=True)
class Program:
    """A program that replaces the command when the yard is closed.

    :param argv: the program and its arguments.
    :param environment: variables in addition to those of this process.
    :param progress: a line for the user before the program starts.
    :param escapes: whether control characters in its output are escaped on a terminal.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    progress: str = ""
    escapes: bool = False


Outcome: TypeAlias = "int | Program"


@dataclass(frozen=True)
class Option:
    """An option with a value, or a flag.

    :param name: its name with the hyphens.
    :param help: one line without a full stop.
    :param default: the value of an option that is not set.
    :param metavar: the name of the value in the help; by default the name of the option.
    :param choices: the valid values.
    :param many: whether the option can be repeated; its value is then a tuple.
    :param flag: whether the option has no value.
    :param kind: the type of the value.
    :param environment: the variable that sets the option.
    :param short: its short name.
    :param bare: the value of the option if it is given without one; empty if it needs a value.
    """

    name: str
    help: str
    default: str | int | None = ""
    metavar: str = field(default="", kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    many: bool = field(default=False, kw_only=True)
    flag: bool = field(default=False, kw_only=True)
    kind: type = field(default=str, kw_only=True)
    environment: str = field(default="", kw_only=True)
    short: str = field(default="", kw_only=True)
    bare: str = field(default="", kw_only=True)
    required: bool = field(default=False, kw_only=True)

    @property
    def field_name(self) -> str:
        """Return the name of its value in the options of a call."""
        return self.name.lstrip("-").replace("-", "_")


@dataclass(frozen=True)
class Argument:
    """An argument without a name on the command line.

    :param name: the name of its value in the options of a call.
    :param metavar: its name in the help.
    :param help: one line without a full stop.
    :param many: whether all further arguments belong to it; its value is then a tuple.
    :param choices: the valid values.
    :param environment: the variable that sets the argument.
    :param complete: the kind of the objects whose names complete the argument.
    """

    name: str
    metavar: str
    help: str
    many: bool = field(default=False, kw_only=True)
    required: bool = field(default=True, kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    environment: str = field(default="", kw_only=True)
    complete: str = field(default="", kw_only=True)


Parameter: TypeAlias = "Option | Argument"


@dataclass(frozen=True)
class Command:
    """A command.

    :param name: its name.
    :param help: one line without a full stop, in the imperative.
    :param run: the function to call: with the open yard and the options, or only with the options.
    :param parameters: its options and arguments without those of the yard.
    :param opens_yard: whether the function is called with an open yard.
    :param text: paragraphs after the line of help.
    :param failure: the exit code of every error of the SDK, or a function that returns it; 0 for
        the codes of :mod:`.main`.
    :param elsewhere: the function to call without a yard if the option ``--service`` is set.
    :param verbatim: whether all words after the first argument belong to another command.
    """

    name: str
    help: str
    run: Callable[..., Outcome]
    parameters: tuple[Parameter, ...] = ()
    opens_yard: bool = field(default=True, kw_only=True)
    text: str = field(default="", kw_only=True)
    failure: int | Callable[[], int] = field(default=0, kw_only=True)
    verbatim: bool = field(default=False, kw_only=True)
    elsewhere: Callable[[Options], Outcome] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Group:
    """Commands for one kind of object."""

    name: str
    help: str
    commands: tuple[Entry, ...]
    text: str = field(default="", kw_only=True)


Entry: TypeAlias = "Command | Group"

JSON = Option("--json", "print the result as JSON", flag=True)
DRY_RUN = Option("--dry-run", "print the actions, and change nothing", flag=True)
TENANT = Option("--tenant", "the tenant", "default")
HOST = Argument("host", "HOST", "the name of the host", complete="host")


def timeout(default: str) -> Option:
    """Return the option for the maximum time of a change."""
    return Option("--timeout", "maximum time", default, metavar="DURATION")


def label(purpose: str) -> Option:
    """Return the option ``--label``."""
    return Option("--label", purpose, metavar="KEY=VALUE", many=True)


def pairs(option: str, arguments: tuple[str, ...], form: str = "KEY=VALUE") -> dict[str, str]:
    """Return keys and values from the arguments of an option.

    :param form: the form of each argument, for the error.
    :raises InvalidInput: if a key has no value.
    """
    parts = [text.partition("=") for text in arguments]
    if not all(sign for _key, sign, _value in parts):
        noun = option.lstrip("-")
        raise InvalidInput(
            f"{option}: a {noun} has no value.", remedy=f"write the {noun} as {form}"
        )
    return {key: value for key, _sign, value in parts}
