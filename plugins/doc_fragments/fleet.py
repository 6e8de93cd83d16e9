# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a fleet: its hosts, and the rules for their replacement."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  count:
    description:
      - The number of hosts in the fleet, at most 10000. By default one.
      - Mutually exclusive with O(names).
    type: int
  min_ready:
    description:
      - The minimum number of hosts without a lease. For every lease, the next run creates another
        host, up to O(max).
      - Cannot be combined with O(names) and O(hypervisors).
    type: int
    default: 0
  max:
    description:
      - The maximum number of hosts in the fleet, including leased hosts. V(0) means no maximum.
      - Leased hosts are never deleted because of this limit. If the limit leaves no room for an
        additional host, hosts are replaced with one host missing.
    type: int
    default: 0
  suspend_after:
    description:
      - The time without a running container and without a lease after which a host is suspended, as
        in V(30m). At least one minute and at most ten years. By default hosts are not suspended.
      - Every run of the fleet looks for such hosts. They use no RAM and no CPU time, and stay
        suspended until a lease resumes one of them, which takes about a second, or until they are
        resumed by name. A host with an encrypted volume is never suspended.
    type: str
    default: ""
  names:
    description: The names of the hosts, instead of their number. A replaced host keeps its name.
    type: list
    elements: str
  update:
    description: The rules for the replacement of hosts that differ from the declaration.
    type: dict
    suboptions:
      strategy:
        description:
          - V(rolling) replaces a few hosts at a time, and stops if a new host does not become
            healthy.
          - V(recreate) replaces all hosts at once. Each host keeps its name.
          - V(on_release) is V(rolling) without O(update.grace).
          - With every strategy, a leased host is replaced after its release.
        type: str
        choices: [rolling, recreate, on_release]
        default: rolling
      max_surge:
        description:
          - The maximum number of additional hosts during a replacement. Additional hosts get free
            names, such as C(web-4) in a fleet of three.
          - By default one, or zero if a new host cannot run at the same time as the old one. That
            is the case with O(names), with O(volumes), and with O(bind) and O(ports) together.
        type: int
      max_unavailable:
        description:
          - The maximum number of declared hosts that can be missing during a replacement.
          - By default zero, or one if O(update.max_surge) is zero. The two limits cannot both be
            zero.
        type: int
      grace:
        description:
          - Seconds to wait for running containers before their host is deleted, at most one day.
          - Applies to hosts that are replaced and to hosts above O(count). O(state=absent) does not
            wait.
        type: float
        default: 30.0
      hook:
        description:
          - A command, as a list, to run before a host is replaced or deleted. It runs on the
            machine that the module runs on. If it fails, the host stays and the rollout stops.
          - The environment of the command describes the host in E(STOCKYARD_HOST),
            E(STOCKYARD_FLEET), E(STOCKYARD_TENANT), E(STOCKYARD_OWNER), E(STOCKYARD_UUID),
            E(STOCKYARD_ADDRESS), E(STOCKYARD_SSH_USER), E(STOCKYARD_SSH_PORT),
            E(STOCKYARD_SSH_KEY), E(STOCKYARD_KNOWN_HOSTS), E(DOCKER_HOST), E(DOCKER_CERT_PATH) and
            E(DOCKER_TLS_VERIFY).
        type: list
        elements: str
        default: []
  recreate:
    description:
      - V(auto) replaces hosts that differ from the declaration.
      - V(always) replaces every host of the fleet in every run, for hosts that are used once.
    type: str
    choices: [auto, always]
    default: auto
  hypervisors:
    description:
      - The hypervisors that the fleet is distributed over. A run calculates the share of its own
        hypervisor, which O(local_hypervisor) names, and converges that share. It never contacts the
        other hypervisors.
      - Hosts that are declared by O(count) are named after the fleet and the hypervisor, as in
        C(web-east-1). O(names) are assigned in their order.
      - Only this list decides. A hypervisor that does not answer keeps its share until its
        O(hypervisors[].state) changes.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the hypervisor. At most 16 lower-case letters, digits and hyphens.
        type: str
        required: true
      state:
        description:
          - V(active) gives the hypervisor a share of the hosts.
          - V(evacuated) and V(dead) give it none. The other hypervisors get its share, and a run on
            this hypervisor deletes its hosts. Run the other hypervisors first.
        type: str
        choices: [active, evacuated, dead]
        default: active
      max:
        description:
          - The maximum number of the fleet's hosts on this hypervisor. By default no maximum.
        type: int
  placement:
    description:
      - V(spread) gives each hypervisor the same number of hosts. If the number cannot be divided
        evenly, the first hypervisors get one more.
      - V(pack) fills a hypervisor up to its C(max) before it uses the next one.
    type: str
    choices: [spread, pack]
    default: spread
  local_hypervisor:
    description:
      - The name of the hypervisor that this run converges. It must be in O(hypervisors), and is
        required with them.
    type: str
    default: ""
  on_full:
    description:
      - Action to take when the pool has insufficient capacity. The run fails in both cases, and the
        error lists the hosts that do not fit.
      - V(refuse) changes nothing.
      - V(fill) first creates as many of the missing hosts as the pool has capacity for.
    type: str
    choices: [refuse, fill]
    default: refuse
  replace_on_labels:
    description:
      - Keys of O(labels) whose change replaces the host. Changes of other labels update the
        existing host.
    type: list
    elements: str
    default: []
"""
