# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles' templates are ones: a syntax error in one shows only where it is rendered, on a real
host.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).parents[2] / "roles"
TEMPLATES = sorted(str(path.relative_to(ROLES)) for path in ROLES.glob("*/templates/**/*.j2"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_role_template_is_valid_jinja(name: str) -> None:
    jinja2.Environment(autoescape=True).parse((ROLES / name).read_text(encoding="utf-8"))
