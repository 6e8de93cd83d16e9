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
    owner:
      description: The owner of the yard.
      type: str
      sample: stockyard
    uuid:
      description: The UUID of the pool.
      type: str
      sample: 9b1c8f0e-2f4b-4a57-9f0e-5d0e3c1b7a22
    parent:
      description: The parent pool. Empty if there is none.
      type: str
      sample: department
    hosts:
      description: The limit of hosts. 0 for no limit.
      type: int
      sample: 10
    vcpus:
      description: The limit of virtual CPUs. 0 for no limit.
      type: int
      sample: 0
    memory_mib:
      description: The memory of all hosts, in MiB. 0 for no limit.
      type: int
      sample: 8192
    memory_overcommit:
      description: The factor by which nominal sizes together can exceed that memory.
      type: float
      sample: 1.0
    disk_gib:
      description: The limit of the virtual size of all disks, in GiB. 0 for no limit.
      type: int
      sample: 0
    cpu_shares:
      description:
        - The weight of the pool against its siblings if processor time is short. 0 for the
          hypervisor's default.
      type: int
      sample: 0
    memory_shares:
      description:
        - The weight of the pool against its siblings if memory is short. 0 for the hypervisor's
          default.
      type: int
      sample: 0
    cpu_reservation_mhz:
      description: The guaranteed processor time, in MHz.
      type: int
      sample: 0
    memory_reservation_mib:
      description: The guaranteed memory, in MiB.
      type: int
      sample: 0
    expandable:
      description: Whether the pool can borrow from the reservation of its parent.
      type: bool
      sample: true
    created:
      description: The time of creation, in seconds since the epoch.
      type: float
      sample: 1767225600.0
    used:
      description:
        - The used part of each limit, by the nominal sizes of the hosts in this pool and in its
          subordinate pools.
      type: dict
      contains:
        hosts:
          description: The number of hosts.
          type: int
          sample: 4
        vcpus:
          description: The number of virtual CPUs.
          type: int
          sample: 4
        memory_mib:
          description: The memory, in MiB.
          type: int
          sample: 4096
        disk_gib:
          description: The virtual size of all disks, in GiB.
          type: int
          sample: 32
    free:
      description: The free part of each limit.
      type: dict
      contains:
        hosts:
          description: The number of hosts. Null if there is no limit.
          type: int
          sample: 6
        vcpus:
          description: The number of virtual CPUs. Null if there is no limit.
          type: int
        memory_mib:
          description: The memory, in MiB. Null if there is no limit.
          type: int
          sample: 4096
        disk_gib:
          description: The virtual size of all disks, in GiB. Null if there is no limit.
          type: int
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
        - The memory that the running hosts actually use on the hypervisor. Null if the hypervisor
          does not provide the figures.
      type: dict
      contains:
        private_mib:
          description: The memory that belongs to the hosts alone, in MiB.
          type: float
          sample: 61.5
        hosts:
          description: The memory of each running host.
          type: list
          elements: dict
          contains:
            name:
              description: The name of the host.
              type: str
              sample: ci-1
            nominal_mib:
              description: The nominal memory of the host, in MiB.
              type: int
              sample: 1024
            private_mib:
              description: The part of the memory that belongs to this host alone, in MiB.
              type: float
              sample: 61.5
            shared_mib:
              description:
                - The part that belongs to the template, in MiB. The remainder was never used.
              type: float
              sample: 118.2
            oom_score:
              description:
                - The score of the machine in the hypervisor's kernel. When memory runs out, the
                  kernel ends the machine with the highest score first.
              type: int
              sample: 671
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
        - V(admission) if the pool only decides whether hosts are created, V(resource pool) if the
          hypervisor also enforces the limits and shares for running hosts.
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


def main() -> None:
    """Run the module."""
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module, lambda yard, params: {"pools": yard.pools.list(params["tenant"], params["name"])}
    )


if __name__ == "__main__":
    main()
