# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to pyvmomi: its types come through here, and a clear error when it is not installed.

pyvmomi says nothing of its types to type checkers, so ``Any`` is what leaves this file.
"""

from __future__ import annotations

import sys
from typing import Any

from ...errors import MissingDependency


def vim() -> Any:
    """The types of vSphere's own API."""
    try:
        from pyVmomi import vim as found
    except ImportError as error:
        raise _missing() from error
    return found


def vmodl() -> Any:
    """The types that lie under it."""
    try:
        from pyVmomi import vmodl as found
    except ImportError as error:
        raise _missing() from error
    return found


def adapter() -> Any:
    """What finds out the newest version of the API that both sides know, and speaks it."""
    try:
        from pyVim.connect import SmartStubAdapter
    except ImportError as error:
        raise _missing() from error
    return SmartStubAdapter


def _missing() -> MissingDependency:
    return MissingDependency(
        "pyvmomi is not installed for this Python.",
        name="vsphere",
        remedy=f"install it for {sys.executable}: pip install 'pyvmomi>=8.0.3'",
    )
