# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module jenkins_nodes_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jenkins_nodes_info
short_description: List the Jenkins nodes for the hosts of a fleet
version_added: 0.1.0
description:
  - Lists the nodes of a fleet on a Jenkins controller, and the hosts of the fleet without a node.
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
      - Whether to return the secrets with which inbound agents authenticate. Set C(no_log) for the
        task if you use this option.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.jenkins_nodes
"""

EXAMPLES = r"""
- name: List the nodes of a fleet
  stockyard.container_hosts.jenkins_nodes_info:
    controller_url: https://jenkins.example.com
    controller_user: stockyard
    controller_token: "{{ vaulted_token }}"
    fleet: agents
  register: agents
"""

RETURN = r"""
nodes:
  description: The nodes of the fleet, sorted by name, followed by the hosts without a node.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the node. Empty for a host without a node.
      type: str
      sample: agents-1-6a0e4c5d
    host:
      description: The name of the host.
      type: str
      sample: agents-1
    uuid:
      description: The UUID of the host.
      type: str
      sample: 6a0e4c5d-1f0e-4b4e-9d63-0c7a5d7e2f11
    address:
      description: The address of the host. Empty if the host does not exist.
      type: str
      sample: 127.77.12.5
    host_state:
      description: The state of the host. V(gone) if it does not exist.
      type: str
      sample: running
    labels:
      description: The labels of the node.
      type: list
      elements: str
      sample: [docker]
    executors:
      description: The number of builds that run at the same time.
      type: int
      sample: 1
    idle:
      description: Whether no build is running.
      type: bool
      sample: true
    online:
      description: Whether the node accepts builds.
      type: bool
      sample: true
    held:
      description: Whether the node was taken offline.
      type: bool
      sample: false
    reason:
      description: The reason why the node accepts no builds.
      type: str
      sample: "stockyard: drained, its host will be deleted"
    secret:
      description:
        - The secret with which the inbound agent authenticates. Null if it was not requested, or
          for a host without a node.
      returned: when O(secrets=true)
      type: str
      sample: 3b1f…
skipped_objects:
  description: Nodes that resemble nodes of stockyard but are skipped.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - "The kind of the object: V(machine), V(host), V(template), V(volume), V(fleet), V(node) or
          V(file)."
      type: str
      sample: machine
    name:
      description: The name of the object, or the path of a file.
      type: str
      sample: stockyard.default.web-9
    reason:
      description: The reason why it is skipped.
      type: str
      sample: its name matches this owner, but the machine has no metadata of stockyard
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: HypervisorError
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: qemu:///session
    cause:
      description: The cause. It can be empty.
      type: str
      sample: Failed to connect socket to /run/user/1000/libvirt/virtqemud-sock
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: start libvirt, then run again
"""

from ..module_utils._ansible import info_module, run_query
from ..module_utils._jenkins import (
    CONTROLLER,
    list_nodes,
)


def main() -> None:
    """Run the module."""
    run_query(
        info_module({**CONTROLLER, "secrets": {"type": "bool", "default": False, "no_log": False}}),
        list_nodes,
    )


if __name__ == "__main__":
    main()
