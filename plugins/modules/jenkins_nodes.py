# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module jenkins_nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jenkins_nodes
short_description: Have the hosts of a fleet as nodes of a Jenkins controller
version_added: 0.1.0
description:
  - Registers a node for every host of a fleet that serves, and removes the nodes of hosts that are gone.
  - Takes nodes out of service and waits for what they build, before their hosts are replaced.
  - Only nodes that carry our mark in their description are touched. It says the owner, the tenant, the fleet and the
    host. A node that somebody copied or that has a damaged mark is left alone.
  - A node is called after its host and a part of the host's uuid, so a new host never has the node of an old one. Jobs
    find it by its labels.
  - A host that is leased is its holder's, and has no node.
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
    details: Hosts that are not made yet have no nodes in the plan.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) has a node for each host. Nodes that were drained come back if their hosts are still there.
      - V(drained) takes nodes out of service and waits until they are idle, O(grace) at most.
      - V(absent) drains nodes and removes them. Hosts stay.
    type: str
    choices: [present, drained, absent]
    default: present
  hosts:
    description:
      - The names of the hosts whose nodes are drained or removed. All of the fleet when it is not given.
      - Not for O(state=present).
    type: list
    elements: str
  launcher:
    description:
      - V(ssh) has the controller log in to the host and start the agent. It needs the plugin C(ssh-slaves). The host
        key is pinned.
      - V(inbound) waits for the agent to connect. It needs no plugin.
    type: str
    choices: [ssh, inbound]
    default: ssh
  credentials_id:
    description:
      - The ID of the controller's credentials, a user and his private key, for O(launcher=ssh).
    type: str
    default: ""
  labels:
    description:
      - What jobs ask for.
    type: list
    elements: str
    default: []
  executors:
    description:
      - How many builds a host runs at a time.
    type: int
    default: 1
  work_dir:
    description:
      - The directory of builds in the host.
    type: str
    default: /var/lib/jenkins
  exclusive:
    description:
      - Whether only jobs that ask for one of the O(labels) get these nodes.
    type: bool
    default: true
  java:
    description:
      - The path of Java in the host, for O(launcher=ssh). The controller looks for it when it is not given.
    type: str
    default: ""
  one_build:
    description:
      - Whether a host is destroyed after one build. Its node is taken out of service while the build runs. When the
        build has ended, the next run of the module destroys the host and removes the node.
      - It is seen only when the module looks. A build that begins and ends between two looks may be followed by another
        on the same host. Use O(watch), or lease a host for each build.
      - It implies O(lost_hosts=replace).
    type: bool
    default: false
  watch:
    description:
      - How long to keep looking for builds that begin, once a second, with O(one_build=true).
    type: str
    default: "0"
  lost_hosts:
    description:
      - What becomes of a host that has no node. V(register) gives it one.
      - V(replace) destroys it when it is older than ten minutes. The next run of M(stockyard.container_hosts.fleet)
        makes another.
    type: str
    choices: [register, replace]
    default: register
  grace:
    description:
      - How long running builds are waited for. After that the node counts as drained.
    type: str
    default: 10m
  register:
    description:
      - Whether nodes are made, changed and brought back. Else only those are taken away that have to go.
    type: bool
    default: true
  collect:
    description:
      - Whether hosts are destroyed, because of O(one_build) or O(lost_hosts).
    type: bool
    default: true
  place:
    description:
      - A name for this hypervisor. A node whose host is gone is removed only by a run at the place where the host was,
        so that a run on the wrong hypervisor removes nothing.
      - By default made of O(hypervisor), and for libvirt of the machine's name.
    type: str
  timeout:
    description:
      - Seconds for everything that the module does.
    type: int
    default: 1200
seealso:
  - module: stockyard.container_hosts.jenkins_nodes_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Have every host of the fleet as an agent
  stockyard.container_hosts.jenkins_nodes:
    controller_url: https://jenkins.example.com
    controller_user: stockyard
    controller_token: "{{ vaulted_token }}"
    fleet: agents
    credentials_id: agents
    labels: [docker]

- name: Let one host finish its builds
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
  description: The fleet's nodes, and after them its hosts that have none. The module jenkins_nodes_info describes them.
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
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["create node agents-1-6a0e4c5d: host agents-1 has none"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["node agents-1-6a0e4c5d: registered"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: ControllerError
    object: controller jenkins.example.com
    cause: ""
    remedy: give a user and his API token, with the permissions that the page on Jenkins lists
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._jenkins import NODES, converging


def main() -> None:
    """Run the module."""
    change(changing(NODES), converging, lambda found: {"nodes": found})


if __name__ == "__main__":
    main()
