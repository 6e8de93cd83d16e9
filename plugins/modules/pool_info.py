# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pool_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_info
short_description: List resource pools of container hosts
version_added: 0.1.0
description:
  - Lists the pools of a yard with their use, the memory that their hosts actually use, and
    warnings.
  - If nothing matches, the list is empty and the module succeeds.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description: Return only the pool with this name.
    type: str
  tenant:
    description: Return only pools of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.pool
"""

EXAMPLES = r"""
- name: List all pools
  stockyard.container_hosts.pool_info:
  register: all_pools

- name: Show all warnings
  ansible.builtin.debug:
    msg: "{{ all_pools.pools | map(attribute='warnings') | flatten }}"
"""

RETURN = r"""
pools:
  description: The pools, sorted by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The pool's name.
      type: str
      sample: ci
    tenant:
      description: The tenant that the pool belongs to.
      type: str
      sample: default
    parent:
      description: The parent pool. Empty if there is none.
      type: str
      sample: department
    used:
      description:
        - The used part of each limit, by the nominal sizes of the hosts in this pool and in its
          subordinate pools.
      type: dict
      sample: {hosts: 4, vcpus: 4, memory_mib: 4096, disk_gib: 32}
    free:
      description: The free part of each limit. Null if there is no limit.
      type: dict
      sample: {hosts: 6, vcpus: null, memory_mib: 4096, disk_gib: null}
    members:
      description: The names of the hosts in this pool and in its subordinate pools.
      type: list
      elements: str
      sample: [ci-1, ci-2, ci-3, ci-4]
    pools:
      description: The names of the direct subordinate pools.
      type: list
      elements: str
      sample: []
    held:
      description:
        - The memory that the running hosts actually use on the hypervisor, and for each host the
          C(oom_score) of its machine in the kernel. Null if the hypervisor does not provide the
          figures.
      type: dict
      sample:
        private_mib: 61.5
        hosts:
          - {name: ci-1, nominal_mib: 1024, private_mib: 61.5, shared_mib: 118.2, oom_score: 671}
    first_to_go:
      description:
        - The host whose machine the kernel would end first if memory ran out. Empty if it is not
          known.
      type: str
      sample: ci-1
    warnings:
      description: The risks that the current use of memory causes. Empty if there are none.
      type: list
      elements: str
      sample: []
    enforced:
      description:
        - V(admission) if the pool only decides whether hosts are created.
        - V(resource pool) if the hypervisor also enforces the limits and shares for running hosts.
      type: str
      sample: admission
    enforced_reason:
      description: The reason why the hypervisor enforces no more than admission. Empty if it does.
      type: str
      sample: an ordinary user's libvirt may not limit a group of machines
    available_mib:
      description:
        - The memory that the hypervisor can still provide, in MiB. Null if it is not known.
      type: int
      sample: 20480
"""

from ..module_utils._ansible import info_module, run_query


def main() -> None:
    """Run the module."""
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module, lambda yard, params: {"pools": yard.pools.list(params["tenant"], params["name"])}
    )


if __name__ == "__main__":
    main()
