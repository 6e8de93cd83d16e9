# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks that keep users' text, such as labels, from being templates in every ansible-core."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

try:
    # Since ansible-core 2.19 only marked text is a template, and ansible-inventory shows unmarked
    # text as unsafe. Text without a brace cannot be a template. It is marked and shown plainly.
    from ansible.template import trust_as_template

    # Large inventories repeat most texts.
    @lru_cache(4096)
    def _text(value: str) -> str:
        return value if "{" in value else trust_as_template(value)

except ImportError:
    # Before 2.19 all text is a template unless it is marked as unsafe.
    from ansible.utils.unsafe_proxy import wrap_var

    def _text(value: str) -> str:
        return wrap_var(value) if "{" in value else value


def marked(value: Any) -> Any:
    """Return a value for a variable with all its texts marked."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    return [marked(item) for item in value] if isinstance(value, list) else value
