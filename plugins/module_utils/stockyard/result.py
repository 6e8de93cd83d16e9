# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call of the SDK did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .planning.plan import Plan


@dataclass(frozen=True)
class Result:
    """What a call did, or would do with ``check=True``.

    :param plan: the actions; empty when all was as declared.
    :param objects: what the call was about as it is now, ready to be shown.
    :param kept: what stays although all else goes, by kind and name.
    """

    plan: Plan
    objects: list[dict[str, Any]]
    kept: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was (or would be) changed."""
        return bool(self.plan)
