# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option security and its specification."""

from __future__ import annotations

from typing import Any

from ..model.security import Limits, SecuritySpec
from .options import options, specification

Params = dict[str, Any]

# A limit without a value is the profile's.
LIMITS: Params = {name: {"type": option["type"]} for name, option in options(Limits).items()}
SECURITY: Params = options(SecuritySpec, limits={"options": LIMITS, "default": None})


def security_spec(params: Params) -> SecuritySpec:
    """Return the security settings of hosts that a task declares."""
    limits = {name: value for name, value in (params["limits"] or {}).items() if value is not None}
    sysctls = {name: str(value) for name, value in params["sysctls"].items()}
    return specification(SecuritySpec, params, limits=limits or None, sysctls=sysctls or None)
