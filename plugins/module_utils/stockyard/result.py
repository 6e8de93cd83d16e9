# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a call of the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import NotFound, OperationRefused
from .planning.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Result(Generic[T]):
    """The changes that a call made, or would make with ``check=True``.

    :param plan: the actions; empty if everything was as declared.
    :param objects: the objects of the call in their present state.
    :param retained: objects that stay although all others are deleted, by kind and name.
    """

    plan: Plan
    objects: tuple[T, ...] = ()
    retained: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Return whether the call changed (or would change) anything."""
        return bool(self.plan)

    @property
    def object(self) -> T:
        """Return the only object of the call.

        :raises NotFound: if the call has no object, as after a deletion, or in check mode before
            the object is created.
        :raises OperationRefused: if the call has several objects.
        """
        if not self.objects:
            raise NotFound("the result contains no object.")
        if len(self.objects) > 1:
            raise OperationRefused(
                f"the result contains {len(self.objects)} objects.", remedy="use objects"
            )
        return self.objects[0]
