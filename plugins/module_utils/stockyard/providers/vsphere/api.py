# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to pyvmomi: the only module that imports its types, with a clear error without pyvmomi.

pyvmomi has no type information for type checkers, so the functions here return ``Any``.
"""

from __future__ import annotations

import sys
from typing import Any

from ...errors import MissingDependency


def vim() -> Any:
    """Return the namespace of vSphere's own types."""
    try:
        from pyVmomi import vim as found
    except ImportError as error:
        raise _missing() from error
    return found


def vmodl() -> Any:
    """Return the namespace of the base types below vSphere's own."""
    try:
        from pyVmomi import vmodl as found
    except ImportError as error:
        raise _missing() from error
    return found


def adapter() -> Any:
    """Return the class that negotiates the newest API version that both sides know, and uses it."""
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
