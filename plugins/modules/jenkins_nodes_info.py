# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module jenkins_nodes_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jenkins_nodes_info
short_description: List the nodes that the hosts of a fleet have on a Jenkins controller
version_added: 0.1.0
description:
  - Lists a fleet's nodes on a Jenkins controller, and its hosts that have none.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.jenkins
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  secrets:
    description:
      - Whether to return what inbound agents prove with that they are a node's. Say C(no_log) in the task then.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.jenkins_nodes
"""

EXAMPLES = r"""
- name: See which hosts build
  stockyard.container_hosts.jenkins_nodes_info:
    controller_url: https://jenkins.example.com
    controller_user: stockyard
    controller_token: "{{ vaulted_token }}"
    fleet: agents
  register: found
"""

RETURN = r"""
nodes:
  description: The fleet's nodes by name, and after them its hosts that have none.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The node's name. Empty where a host has none.
      type: str
      sample: agents-1-6a0e4c5d
    host:
      description: The name of its host.
      type: str
      sample: agents-1
    uuid:
      description: The uuid of its host.
      type: str
      sample: 6a0e4c5d-1f0e-4b4e-9d63-0c7a5d7e2f11
    address:
      description: The address of its host. Empty when the host is gone.
      type: str
      sample: 127.77.12.5
    host_state:
      description: What the host does, V(gone) when there is none.
      type: str
      sample: running
    labels:
      description: What jobs ask for.
      type: list
      elements: str
      sample: [docker]
    executors:
      description: How many builds it runs at a time.
      type: int
      sample: 1
    idle:
      description: Whether no build runs on it.
      type: bool
      sample: true
    online:
      description: Whether it gets builds.
      type: bool
      sample: true
    held:
      description: Whether it was taken out of service.
      type: bool
      sample: false
    reason:
      description: Why it gets no builds.
      type: str
      sample: "stockyard: drained, its host is to go"
    secret:
      description: What its inbound agent proves with that it is this node's.
      type: str
      returned: with O(secrets=true)
      sample: 3b1f…
left:
  description: Nodes that look like ours and are left alone.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What it is.
      type: str
      sample: node
    name:
      description: Its name.
      type: str
      sample: agents-1-copy
    reason:
      description: Why it is left alone.
      type: str
      sample: its mark is that of node agents-1-6a0e4c5d.
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking
from ansible_collections.stockyard.container_hosts.plugins.module_utils._jenkins import CONTROLLER, listing


def main() -> None:
    """Run the module."""
    ask(asking({**CONTROLLER, "secrets": {"type": "bool", "default": False, "no_log": False}}), listing)


if __name__ == "__main__":
    main()
