# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pool."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pool
short_description: Manage a resource pool with a quota for container hosts
version_added: 0.1.0
description:
  - Creates, changes or deletes a pool. A pool limits all its hosts together, including the hosts of
    its subordinate pools. A host that exceeds a limit is refused before it is created, and the
    error contains the figures. This also holds if several controllers create hosts at the same
    time.
  - The limits of a pool can be changed while its hosts run.
  - Hosts count by their nominal sizes. M(stockyard.container_hosts.pool_info) returns the memory
    that they actually use.
  - For all limits, V(0) means no limit.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.tenant
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The name of the pool. At most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) creates or changes the pool.
      - V(absent) deletes the pool. It fails while the pool has hosts or subordinate pools.
    type: str
    choices: [present, absent]
    default: present
  parent:
    description:
      - The parent pool, in the same tenant. The members of a pool also count in its parent. The
        parent of a pool cannot be changed.
    type: str
    default: ""
  hosts:
    description: The maximum number of hosts.
    type: int
    default: 0
  vcpus:
    description: The maximum number of virtual CPUs of all hosts together.
    type: int
    default: 0
  memory_mib:
    description:
      - The maximum memory of all hosts together, in MiB. It is multiplied by O(memory_overcommit).
    type: int
    default: 0
  memory_overcommit:
    description:
      - The factor by which the nominal memory of all hosts can exceed O(memory_mib), from 1 to 64.
        Forks share the memory that they have not written, so that their actual use is lower until
        they write.
    type: float
    default: 1.0
  disk_gib:
    description:
      - The maximum size of all disks together, in GiB, by their virtual sizes.
      - On vSphere disks are not counted, because the sizes of cloned machines are not declared.
    type: int
    default: 0
  cpu_shares:
    description:
      - The weight of the pool when the pools on one hypervisor compete for CPU time. V(0) is the
        default weight.
      - Effective on vSphere only.
    type: int
    default: 0
  memory_shares:
    description:
      - The weight of the pool when the pools on one hypervisor compete for memory. V(0) is the
        default weight.
      - Effective on vSphere only.
    type: int
    default: 0
  cpu_reservation_mhz:
    description:
      - The guaranteed CPU capacity of the pool, in MHz.
      - Effective on vSphere only.
    type: int
    default: 0
  memory_reservation_mib:
    description:
      - The guaranteed memory of the pool, in MiB. It cannot exceed O(memory_mib).
      - Effective on vSphere only.
    type: int
    default: 0
  expandable:
    description:
      - Whether the pool can use unreserved capacity of its parent when its own reservation is
        exhausted.
      - Effective on vSphere only.
    type: bool
    default: true
  force:
    description:
      - Whether the limits can be set below the current use. The existing hosts stay, and new hosts
        are refused. With V(false) this is an error.
    type: bool
    default: false
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 60
seealso:
  - module: stockyard.container_hosts.pool_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Create a pool of ten hosts and 8 GiB with an overcommit of 1.5
  stockyard.container_hosts.pool:
    name: ci
    hosts: 10
    memory_mib: 8192
    memory_overcommit: 1.5

- name: Create a fleet in the pool
  stockyard.container_hosts.fleet:
    name: runner
    template: docker
    count: 10
    pool: ci

- name: Raise the limits while the hosts run
  stockyard.container_hosts.pool:
    name: ci
    hosts: 20
    memory_mib: 16384
    memory_overcommit: 1.5
"""

RETURN = r"""
pool:
  description: The pool after the run. Empty if there is none.
  returned: success
  type: dict
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
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["change pool ci: hosts, memory_mib changed"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["pool ci: changed"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: OperationRefused
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: pool ci
    cause:
      description: The cause. It can be empty.
      type: str
      sample: 10 of 5 hosts are used
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: delete hosts first; or set force, and then the pool admits no new hosts
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.specs import (
    POOL,
    pool_spec,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **POOL,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Converge or delete a pool as the task declares."""
    if params["state"] == "absent":
        return yard.pools.delete(params["name"], params["tenant"], **mode)
    return yard.pools.apply(pool_spec(params), force=params["force"], **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS)
    run_change(module, change, lambda pools: {"pool": pools[0] if pools else {}})


if __name__ == "__main__":
    main()
