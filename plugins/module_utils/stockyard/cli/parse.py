# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parser of the command line: commands as values become commands of the library click.

Only this file uses click, inside functions: the SDK works without the library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, MissingDependency
from . import say
from .command import Argument, Command, Entry, Group, Option, Options, Outcome, Parameter
from .version import VERSION

if TYPE_CHECKING:
    import click

USAGE = 2
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class Section:
    """Commands under one heading of the help.

    :param entries: the line of help of each command, and the function that returns the command.
    """

    title: str
    entries: Mapping[str, tuple[str, Callable[[], Entry]]]


@dataclass(frozen=True)
class CommandLine:
    """The whole command line.

    :param call: runs a command with its options.
    :param connection: the options of each command that opens a yard.
    :param complete: returns the names of objects of a kind for the completion in a shell.
    """

    help: str
    sections: Sequence[Section]
    connection: tuple[Parameter, ...]
    call: Callable[[Command, Options], Outcome]
    complete: Callable[[str, Mapping[str, Any]], list[str]]

    @property
    def entries(self) -> dict[str, tuple[str, Callable[[], Entry]]]:
        """Return all commands."""
        return {name: entry for part in self.sections for name, entry in part.entries.items()}


def run(line: CommandLine, arguments: Sequence[str]) -> Outcome:
    """Parse the arguments and run their command."""
    _check_library()
    import click

    try:
        outcome: Outcome = root(line).main(
            list(arguments), prog_name="stockyard", standalone_mode=False
        )
    except click.UsageError as error:
        usage = error.ctx.get_usage() if error.ctx else "Usage: stockyard COMMAND"
        for text in usage.replace("Usage:", "usage:", 1).splitlines():
            say.err(text)
        say.err(f"stockyard: {error.format_message()}")
        return USAGE
    except click.Abort:
        # The library replaces the interrupt by its own exception.
        raise KeyboardInterrupt from None
    return outcome


def root(line: CommandLine) -> click.Group:
    """Return the command ``stockyard`` of click. Subcommands are imported when they are needed."""
    import click

    class Root(click.Group):
        """All commands."""

        def list_commands(self, _ctx: click.Context) -> list[str]:
            """Return the names in the order of the help."""
            return list(line.entries)

        def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
            """Return a command, imported now."""
            entry = line.entries.get(name)
            return _built(line, entry[1]()) if entry else None

        def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write the commands by section, without importing them."""
            for part in line.sections:
                with formatter.section(part.title):
                    formatter.write_dl([(name, entry[0]) for name, entry in part.entries.items()])

    version = click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="print the version",
    )
    return Root(
        "stockyard",
        help=line.help,
        params=[version],
        no_args_is_help=False,
        context_settings=dict(HELP),
    )


def shell_script(shell: str) -> str:
    """Return the script that completes the command in a shell.

    :raises InvalidInput: if the shell is not known.
    """
    import click
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise InvalidInput(f"the shell {shell} is not known.")
    return kind(click.Command("stockyard"), {}, "stockyard", "_STOCKYARD_COMPLETE").source()


def answer_shell(line: CommandLine, instruction: str) -> int:
    """Print the completions that the script of a shell asks for."""
    _check_library()
    from click.shell_completion import shell_complete

    return shell_complete(root(line), {}, "stockyard", "_STOCKYARD_COMPLETE", instruction)


def _check_library() -> None:
    try:
        import click  # noqa: F401  # used for each command
    except ImportError as error:
        raise MissingDependency(
            "the command line needs the library click.",
            cause=str(error),
            remedy="install python3-click or click>=8.1, or stockyard[cli]",
        ) from error


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        say.out(f"stockyard {VERSION}")
        ctx.exit()


def _built(line: CommandLine, entry: Entry) -> click.Command:
    import click

    if isinstance(entry, Command):
        return _command(line, entry)
    return click.Group(
        entry.name,
        help=_text(entry),
        short_help=entry.help,
        no_args_is_help=False,
        context_settings=dict(HELP),
        commands=[_built(line, command) for command in entry.commands],
    )


def _command(line: CommandLine, command: Command) -> click.Command:
    import click

    def call(**values: Any) -> Outcome:
        return line.call(command, Options(**values))

    class Parsed(click.Command):
        """A command whose last words can belong to another command."""

        def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
            """Parse options and arguments."""
            words = _separated(parameters, args) if command.verbatim else args
            return super().parse_args(ctx, words)

    parameters = command.parameters + (line.connection if command.opens_yard else ())
    return Parsed(
        command.name,
        params=[
            _option(parameter) if isinstance(parameter, Option) else _argument(line, parameter)
            for parameter in parameters
        ],
        callback=call,
        help=_text(command),
        short_help=command.help,
        context_settings=dict(HELP),
    )


def _separated(parameters: Sequence[Parameter], words: list[str]) -> list[str]:
    """Return the words with two hyphens after the first argument and the options of the command:
    the others belong to another command.
    """
    options = [parameter for parameter in parameters if isinstance(parameter, Option)]
    with_value = {
        name for option in options if not option.flag for name in (option.name, option.short)
    }
    arguments, is_value = 0, False
    for index, word in enumerate(words):
        if is_value:
            is_value = False
        elif word == "--":
            return words
        elif word.startswith("-") and word != "-":
            is_value = word in with_value
        elif arguments:
            return [*words[:index], "--", *words[index:]]
        else:
            arguments += 1
    return words


def _text(entry: Command | Group) -> str:
    arguments = entry.parameters if isinstance(entry, Command) else ()
    lines = [f"{entry.help[0].upper()}{entry.help[1:]}."]
    lines += [entry.text] if entry.text else []
    described = [item for item in arguments if isinstance(item, Argument)]
    if described:
        lines.append("\b\n" + "\n".join(f"{item.metavar}: {item.help}" for item in described))
    return "\n\n".join(lines)


def _option(option: Option) -> click.Option:
    import click

    # A choice has no empty value.
    unset = () if option.many else None if option.choices else ""
    default = option.default if option.default not in ("", None) else unset
    facts: dict[str, Any] = (
        {"is_flag": True}
        if option.flag
        else {
            "metavar": option.metavar or None,
            "type": click.Choice(option.choices) if option.choices else option.kind,
            "multiple": option.many,
            **({"is_flag": False, "flag_value": option.bare} if option.bare else {}),
            "show_default": option.default not in ("", None, ()),
            # A default would be a value of a required option.
            **({"required": True} if option.required else {"default": default}),
        }
    )
    return click.Option(
        [option.name, *([option.short] if option.short else []), option.field_name],
        help=option.help,
        envvar=option.environment or None,
        **facts,
    )


def _argument(line: CommandLine, argument: Argument) -> click.Argument:
    import click

    def complete(ctx: click.Context, _parameter: click.Parameter, start: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        names = line.complete(argument.complete, ctx.params)
        return [CompletionItem(name) for name in names if name.startswith(start)]

    return click.Argument(
        [argument.name],
        metavar=_metavar(argument),
        nargs=-1 if argument.many else 1,
        required=argument.required,
        type=click.Choice(argument.choices) if argument.choices else str,
        envvar=argument.environment or None,
        shell_complete=complete if argument.complete else None,
    )


def _metavar(argument: Argument) -> str:
    name = f"{argument.metavar}..." if argument.many else argument.metavar
    return name if argument.required else f"[{name}]"
