# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of objects in errors about options: a declaration contains many objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ..errors import InvalidInput
from ..model.naming import shown

Params = dict[str, Any]
Spec = TypeVar("Spec")


def named(kind: str) -> Callable[[Callable[[Params], Spec]], Callable[[Params], Spec]]:
    """Return a decorator that adds the name of the object to a function's errors that have none.

    :param kind: the kind of the object: ``fleet`` and so on.
    """

    def decorate(make: Callable[[Params], Spec]) -> Callable[[Params], Spec]:
        @wraps(make)
        def wrapper(params: Params) -> Spec:
            try:
                return make(params)
            except InvalidInput as error:
                error.name = error.name or f"{kind} {shown(params['name'])[1:-1]}"
                raise

        return wrapper

    return decorate
