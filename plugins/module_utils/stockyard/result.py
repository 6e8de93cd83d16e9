# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a call of the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .planning.plan import Plan


@dataclass(frozen=True)
class Result:
    """The changes that a call made, or would make with ``check=True``.

    :param plan: the actions; empty if everything was as declared.
    :param objects: the objects of the call in their present state, ready to be shown.
    :param retained: objects that stay although all others are deleted, by kind and name.
    """

    plan: Plan
    objects: list[dict[str, Any]]
    retained: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the call changed (or would change) anything."""
        return bool(self.plan)
