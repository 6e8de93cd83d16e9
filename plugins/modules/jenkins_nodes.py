# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module jenkins_nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jenkins_nodes
short_description: Manage the Jenkins nodes for the hosts of a fleet
version_added: 0.1.0
description:
  - Creates a node for every ready host of a fleet, and deletes the nodes of hosts that no longer
    exist.
  - Drains nodes before their hosts are replaced. A draining node is offline and finishes its
    builds.
  - Only nodes with a marker of stockyard in their description are changed. The marker contains the
    owner, the tenant, the fleet and the host. Copied nodes and nodes with a damaged marker are
    skipped.
  - The name of a node consists of the name of its host and a part of the host's UUID, so that a new
    host never uses the node of an old host. Jobs select nodes by labels.
  - A leased host has no node.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.jenkins
attributes:
  check_mode:
    support: full
    details: The plan does not contain nodes of hosts that do not exist yet.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) creates a node for each host. Drained nodes of existing hosts become online
        again.
      - V(drained) takes nodes offline and waits until their builds end, for at most O(grace).
      - V(absent) drains nodes and deletes them. The hosts stay.
    type: str
    choices: [present, drained, absent]
    default: present
  hosts:
    description:
      - The hosts whose nodes are drained or deleted. By default all hosts of the fleet.
      - Cannot be combined with O(state=present).
    type: list
    elements: str
  launcher:
    description:
      - With V(ssh) the Jenkins controller logs in to the host and starts the agent. It needs the
        plugin C(ssh-slaves). The host key is pinned.
      - With V(inbound) the agent connects to the Jenkins controller. It needs no plugin.
    type: str
    choices: [ssh, inbound]
    default: ssh
  credentials_id:
    description:
      - The ID of the credentials on the Jenkins controller, with a user name and a private key.
        Required with O(launcher=ssh) and O(state=present).
    type: str
    default: ""
  labels:
    description:
      - The labels of the nodes, by which jobs select them. Each label has at most 63 letters,
        digits and the characters C(.), C(_) and C(-).
    type: list
    elements: str
    default: []
  executors:
    description: The number of builds that run on a host at the same time, from 1 to 100.
    type: int
    default: 1
  work_dir:
    description: The directory of the agent in the host.
    type: str
    default: /var/lib/jenkins
  exclusive:
    description: Whether the nodes run only jobs that request one of their O(labels).
    type: bool
    default: true
  java:
    description:
      - The path of Java in the host, for O(launcher=ssh). By default the Jenkins controller
        searches for it.
    type: str
    default: ""
  one_build:
    description:
      - Whether a host is deleted after one build. Its node is taken offline while the build runs.
        After the build, the next run of the module deletes the host and the node.
      - A build is detected only while the module observes the node. If a build starts and ends
        between two observations, another build can run on the same host. Use O(watch), or lease a
        host for each build.
      - Implies O(lost_hosts=replace), and requires O(executors=1).
    type: bool
    default: false
  watch:
    description:
      - The time to observe the nodes for new builds, once per second, with O(one_build=true). As in
        V(90s) or V(10m). V(0) observes them once.
    type: str
    default: "0"
  lost_hosts:
    description:
      - Action to take for a host that has no node.
      - V(register) creates a node.
      - V(replace) deletes the host if it is older than ten minutes. The next run of
        M(stockyard.container_hosts.fleet) creates another host.
    type: str
    choices: [register, replace]
    default: register
  grace:
    description:
      - The time to wait for running builds, as in V(90s) or V(30m). After that time the node counts
        as drained.
    type: str
    default: 10m
  register:
    description:
      - Whether to create and change nodes, and to take drained nodes online. With V(false) nodes
        are only taken offline and deleted.
    type: bool
    default: true
  collect:
    description: Whether to delete hosts because of O(one_build) or O(lost_hosts).
    type: bool
    default: true
  place:
    description:
      - A name for this hypervisor. The node of a deleted host is deleted only by a run with the
        same name, so that a run on a wrong hypervisor deletes no nodes.
      - By default derived from O(hypervisor), and for libvirt also from the name of the machine.
    type: str
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 1200
seealso:
  - module: stockyard.container_hosts.jenkins_nodes_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Create a node for every host of the fleet
  stockyard.container_hosts.jenkins_nodes:
    controller_url: https://jenkins.example.com
    controller_user: stockyard
    controller_token: "{{ vaulted_token }}"
    fleet: agents
    credentials_id: agents
    labels: [docker]

- name: Drain the node of one host
  stockyard.container_hosts.jenkins_nodes:
    controller_url: https://jenkins.example.com
    controller_user: stockyard
    controller_token: "{{ vaulted_token }}"
    fleet: agents
    hosts: [agents-1]
    state: drained
    grace: 30m
"""

RETURN = r"""
nodes:
  description:
    - The nodes of the fleet, followed by the hosts without a node.
      M(stockyard.container_hosts.jenkins_nodes_info) describes the keys.
  returned: success
  type: list
  elements: dict
  sample:
    - name: agents-1-6a0e4c5d
      host: agents-1
      uuid: 6a0e4c5d-1f0e-4b4e-9d63-0c7a5d7e2f11
      address: 127.77.12.5
      host_state: running
      labels: [docker]
      executors: 1
      idle: true
      online: true
      held: false
      reason: ""
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
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["create node agents-1-6a0e4c5d: host agents-1 has no node"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["node agents-1-6a0e4c5d: registered"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: ControllerError
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: controller jenkins.example.com
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: set a user and an API token, with the permissions that the page on Jenkins lists
"""

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils._jenkins import (
    NODES,
    change_nodes,
)


def main() -> None:
    """Run the module."""
    run_change(mutating_module(NODES), change_nodes, lambda nodes: {"nodes": nodes})


if __name__ == "__main__":
    main()
