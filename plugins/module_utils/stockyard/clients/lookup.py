# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection of objects by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..errors import NotFound
from ..model.naming import shown

T = TypeVar("T")


def last(kind: str, name: str, objects: Sequence[T]) -> T:
    """Return the last of the objects that were selected by a name.

    :raises NotFound: if no object was selected.
    """
    if not objects:
        raise NotFound(f"the {kind} does not exist.", name=f"{kind} {shown(name)[1:-1]}")
    return objects[-1]
