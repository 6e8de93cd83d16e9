# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module yard."""

from __future__ import annotations

DOCUMENTATION = r"""
module: yard
short_description: Take a whole yard away
version_added: 0.1.0
description:
  - Destroys every host of an owner on a hypervisor, in fleets and single, whether anything still declares it or not.
  - Objects of other owners, and objects whose record cannot be read, are left alone.
  - To make a yard, use the role P(stockyard.container_hosts.yard#role).
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(absent) takes the yard away. There is no other state.
    type: str
    choices: [absent]
    required: true
  templates:
    description:
      - Whether to take its templates away too.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for everything that the module does.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Destroy all hosts and keep the templates
  stockyard.container_hosts.yard:
    state: absent

- name: Destroy everything that a pipeline made
  stockyard.container_hosts.yard:
    owner: pipeline-42
    state: absent
    templates: true
"""

RETURN = r"""
hosts:
  description: The names of the hosts that are left, which is none after a success outside check mode.
  returned: success
  type: list
  elements: str
  sample: []
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["destroy host web-1: the yard is taken away"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: destroyed"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Busy
    object: stockyard.default.fleet.web
    cause: ""
    remedy: wait, then run again
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing

OPTIONS = {
    "state": {"type": "str", "choices": ["absent"], "required": True},
    "templates": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    change(
        changing(OPTIONS),
        lambda yard, params, how: yard.teardown(templates=params["templates"], **how),
        lambda found: {"hosts": [host["name"] for host in found]},
    )


if __name__ == "__main__":
    main()
