# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that somebody wrote, such as labels, is never a template, whichever ansible-core reads it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

try:
    # Since ansible-core 2.19 nothing is a template that is not marked as one, and ansible-inventory shows what is not
    # marked as unsafe. Text without a brace can be no template: it is marked, to be shown as it is.
    from ansible.template import trust_as_template

    # A thousand hosts have most of it in common.
    @lru_cache(4096)
    def _text(value: str) -> str:
        return value if "{" in value else trust_as_template(value)

except ImportError:
    # Before, everything is one that is not marked as unsafe.
    from ansible.utils.unsafe_proxy import wrap_var

    def _text(value: str) -> str:
        return wrap_var(value) if "{" in value else value


def marked(value: Any) -> Any:
    """A value for a variable, with every text in it marked as what it is."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    return [marked(item) for item in value] if isinstance(value, list) else value
