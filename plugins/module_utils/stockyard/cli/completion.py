# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard completion``: prints the script that completes the command in a shell."""

from __future__ import annotations

from . import parse, say
from .command import Argument, Command, Options

SHELLS = ("bash", "zsh", "fish")


def _print(options: Options) -> int:
    say.shell(parse.shell_script(options.shell))
    return 0


COMPLETION = Command(
    "completion",
    "print the completion of the command for a shell",
    _print,
    (Argument("shell", "SHELL", "bash, zsh or fish", choices=SHELLS),),
    opens_yard=False,
    text='Add this line to ~/.bashrc: eval "$(stockyard completion bash)". In zsh, write zsh '
    "instead of bash. In fish: stockyard completion fish | source.",
)
