# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option provision and its specification."""

from __future__ import annotations

from typing import Any

from ..model.provision import Provision
from .options import options, specification

Params = dict[str, Any]

PROVISION: Params = {
    "type": "dict",
    "options": options(Provision, "digest", playbook={"default": None}, roles={"default": None}),
    "mutually_exclusive": [["playbook", "roles"]],
    "required_one_of": [["playbook", "roles"]],
}


def provision_spec(params: Params | None) -> Provision | None:
    """Return the playbook or the roles to run against a template."""
    return None if params is None else specification(Provision, params)
