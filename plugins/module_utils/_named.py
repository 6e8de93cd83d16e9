# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which object an error in options is about: a declaration has many."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from .stockyard.errors import InvalidInput
from .stockyard.model.naming import shown

Params = dict[str, Any]
Spec = TypeVar("Spec")


def named(kind: str) -> Callable[[Callable[[Params], Spec]], Callable[[Params], Spec]]:
    """Have a function's errors name the object whose parameters it is given, where they name none.

    :param kind: what it is: ``fleet`` and so on.
    """

    def about(make: Callable[[Params], Spec]) -> Callable[[Params], Spec]:
        @wraps(make)
        def making(params: Params) -> Spec:
            try:
                return make(params)
            except InvalidInput as error:
                error.name = error.name or f"{kind} {shown(params['name'])[1:-1]}"
                raise

        return making

    return about
