# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The holder and the number of a lease on the command line."""

from __future__ import annotations

import getpass
import os
import socket

from ..errors import InvalidInput
from .command import Options


def default_holder() -> str:
    """Return the holder if the user names none."""
    return f"{_user()}@{socket.gethostname()}"


def number(options: Options) -> str:
    """Return the number of the lease that a command needs.

    :raises InvalidInput: if there is none.
    """
    if not options.id:
        raise InvalidInput(
            "no lease was specified.", remedy="specify its number, or set STOCKYARD_LEASE"
        )
    return str(options.id)


def _user() -> str:
    """Return the name of this user, or the number: in a container a user can have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
