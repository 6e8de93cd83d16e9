# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pool_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_info
short_description: List pools
version_added: 0.1.0
description:
  - Lists the pools of a yard, what is used of each, what its hosts really hold, and what is to be feared of that.
  - What does not exist is not an error. The list is empty then.
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
    description:
      - Only the pool of this name.
    type: str
  tenant:
    description:
      - Only pools of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.pool
"""

EXAMPLES = r"""
- name: Look at all pools
  stockyard.container_hosts.pool_info:
  register: found

- name: Say what is to be feared
  ansible.builtin.debug:
    msg: "{{ found.pools | map(attribute='warnings') | flatten }}"
"""

RETURN = r"""
pools:
  description: The pools that were found, by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the pool.
      type: str
      sample: ci
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    parent:
      description: The pool that it is in, empty for none.
      type: str
      sample: department
    used:
      description: What the hosts in it, and in pools in it, take of each limit, by their nominal sizes.
      type: dict
      sample: {hosts: 4, vcpus: 4, memory_mib: 4096, disk_gib: 32}
    free:
      description: What is left of each limit, null where there is no limit.
      type: dict
      sample: {hosts: 6, vcpus: null, memory_mib: 4096, disk_gib: null}
    members:
      description: The names of the hosts in it, and in pools in it.
      type: list
      elements: str
      sample: [ci-1, ci-2, ci-3, ci-4]
    pools:
      description: The names of the pools in it, directly.
      type: list
      elements: str
      sample: []
    held:
      description: >-
        What its running hosts really hold of the memory of the hypervisor, each with the number that the kernel gives
        its machine (C(oom_score)). Null where the hypervisor does not say.
      type: dict
      sample:
        private_mib: 61.5
        hosts: [{name: ci-1, nominal_mib: 1024, private_mib: 61.5, shared_mib: 118.2, oom_score: 671}]
    first_to_go:
      description: The host whose machine the kernel would end first if memory ran out. Empty where that is not known.
      type: str
      sample: ci-1
    warnings:
      description: What is to be feared, each in a line. Empty when all is well.
      type: list
      elements: str
      sample: []
    enforced:
      description: >-
        V(admission) where the pool only decides what is let in. V(resource pool) where the hypervisor holds what is in
        it to its limits and shares too.
      type: str
      sample: admission
    enforced_reason:
      description: Why it is no more than admission.
      type: str
      sample: an ordinary user's libvirt may not limit a group of machines
    available_mib:
      description: The memory in MiB that the hypervisor can still give, null where that is not known.
      type: int
      sample: 20480
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    module = asking({"name": {"type": "str"}, "tenant": {"type": "str"}})
    ask(module, lambda yard, params: {"pools": yard.pools(params["tenant"], params["name"])})


if __name__ == "__main__":
    main()
