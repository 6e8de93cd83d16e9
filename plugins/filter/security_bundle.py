# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter security_bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import checked
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.errors import (
    StockyardError,
)
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.guest import (
    security,
)

from ..module_utils.stockyard.declarations.security import SECURITY, security_spec

DOCUMENTATION = r"""
name: security_bundle
short_description: Return the packages, files and units of a security profile
version_added: 0.1.0
description:
  - Returns the packages, files and units that put a security profile into force on a host. The
    module M(stockyard.container_hosts.template) installs the same files in templates, and the roles
    of this collection install them on hosts.
positional: _input
author:
  - stockyard contributors (!UNKNOWN)
options:
  _input:
    description:
      - A profile, and settings that differ from it, as in the option
        O(stockyard.container_hosts.template#module:security).
    type: dict
    required: true
  user:
    description: The login user of the host, who can use a rootless Docker.
    type: str
    default: root
"""

EXAMPLES = r"""
- name: Show the keys of daemon.json for the profile hostile
  ansible.builtin.debug:
    msg: "{{ ({'profile': 'hostile'} | stockyard.container_hosts.security_bundle).daemon }}"
"""

RETURN = r"""
_value:
  description:
    - A mapping with C(packages), C(files) (each with C(path), C(text) and C(mode)), C(enable) and
      C(masked) (units), and C(daemon) (keys of C(daemon.json)).
  type: dict
"""


def security_bundle(value: Any, user: str = "root") -> dict[str, Any]:
    """Return the packages, files and units of a profile."""
    try:
        spec = security_spec(checked(SECURITY, value, "security"))
        bundle = security.bundle(spec.settings(), user)
    except StockyardError as error:
        raise AnsibleFilterError(str(error)) from error
    return {
        "packages": list(bundle.packages),
        "files": [
            {"path": p, "text": f.text, "mode": f"{f.mode:04o}"}
            for p, f in sorted(bundle.files.items())
        ],
        "enable": list(bundle.enable),
        "masked": list(bundle.masked),
        "daemon": bundle.daemon,
    }


class FilterModule:
    """Filters for security profiles."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"security_bundle": security_bundle}
