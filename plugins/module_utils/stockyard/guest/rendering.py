# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering of Jinja templates for files in a guest."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..errors import MissingDependency


def render(text: str, **values: Any) -> str:
    """Render a template. An undefined variable is an error."""
    return str(_compiled(text).render(values))


# The same few texts are rendered for every template of a yard, and to compile a text takes longer
# than to render it.
@lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependency("Jinja2 is not installed.", remedy="pip install jinja2") from error
    # The result is configuration, not HTML; every variable was checked against a pattern.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    return environment.from_string(text)
