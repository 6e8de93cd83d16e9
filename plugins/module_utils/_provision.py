# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options cloud_image and provision, and their specifications."""

from __future__ import annotations

from typing import Any

from .stockyard.model.cloud_image import CloudImage
from .stockyard.model.provision import Provision

Params = dict[str, Any]

CLOUD_IMAGE: Params = {
    "type": "dict",
    "options": {
        "location": {"type": "str", "required": True},
        "checksum": {"type": "str", "default": ""},
    },
}

PROVISION: Params = {
    "type": "dict",
    "options": {
        "playbook": {"type": "str"},
        "roles": {"type": "list", "elements": "str"},
        "variables": {"type": "dict", "default": {}},
        "files": {"type": "list", "elements": "str", "default": []},
    },
    "mutually_exclusive": [["playbook", "roles"]],
    "required_one_of": [["playbook", "roles"]],
}


def cloud_image_spec(options: Params | None) -> CloudImage | None:
    """Return the image that a template is based on."""
    return None if options is None else CloudImage(options["location"], options["checksum"])


def provision_spec(options: Params | None) -> Provision | None:
    """Return the playbook or the roles to run against a template."""
    if options is None:
        return None
    roles, files = tuple(options["roles"] or ()), tuple(options["files"])
    return Provision(options["playbook"] or "", roles, options["variables"] or None, files)
