# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options cloud_image and provision, and the specifications that they become."""

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


def cloud_image_spec(given: Params | None) -> CloudImage | None:
    """What a template begins with."""
    return None if given is None else CloudImage(given["location"], given["checksum"])


def provision_spec(given: Params | None) -> Provision | None:
    """What is to be run against a template."""
    if given is None:
        return None
    roles, files = tuple(given["roles"] or ()), tuple(given["files"])
    return Provision(given["playbook"] or "", roles, given["variables"] or None, files)
