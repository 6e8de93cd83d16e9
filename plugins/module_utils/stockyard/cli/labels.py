# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``--label`` of several commands."""

from __future__ import annotations

import argparse

from ..errors import InvalidInput


def add(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the option to the parser of a command."""
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help=purpose)


def parse(arguments: list[str]) -> dict[str, str]:
    """Return labels from the arguments of ``--label``.

    :raises InvalidInput: if a label has no value.
    """
    pairs = [text.partition("=") for text in arguments]
    if not all(sign for _key, sign, _value in pairs):
        raise InvalidInput("--label: a label has no value.", remedy="write the label as KEY=VALUE")
    return {key: value for key, _sign, value in pairs}
