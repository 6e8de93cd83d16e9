# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pool."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pool
short_description: Have a boundary around container hosts
version_added: 0.1.0
description:
  - Makes a pool as declared. A pool is a limit for all hosts in it together, and for pools in it. A host is let in, or
    refused with the numbers, before anything of it is made, however many controllers ask at once.
  - It grows and shrinks while its hosts run.
  - Hosts count by their nominal sizes. What they really hold of the memory says M(stockyard.container_hosts.pool_info).
  - A limit that is 0 is none.
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
    description:
      - Its name, at most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) has it as declared.
      - V(absent) takes it away. That is refused while something is in it.
    type: str
    choices: [present, absent]
    default: present
  parent:
    description:
      - The pool that it is in, of the same tenant. What is in it counts there too. It cannot be changed.
    type: str
    default: ''
  hosts:
    description:
      - How many hosts there may be.
    type: int
    default: 0
  vcpus:
    description:
      - How many virtual CPUs they may have in all.
    type: int
    default: 0
  memory_mib:
    description:
      - The memory in MiB that there is for them.
    type: int
    default: 0
  memory_overcommit:
    description:
      - How many times O(memory_mib) the nominal sizes of hosts may come to, from 1 to 64. Forks share what they have
        not written, so that more of them fit than their sizes say, until they write.
    type: float
    default: 1.0
  disk_gib:
    description:
      - How large their disks may be in all, in GiB, by their virtual sizes. On vSphere, where templates are clones of
        machines that are not built here, disks are not counted.
    type: int
    default: 0
  cpu_shares:
    description:
      - Its weight against pools beside it where the processor is short, V(0) for the usual one. For vSphere. Elsewhere
        it is kept and has no effect.
    type: int
    default: 0
  memory_shares:
    description:
      - The same for memory.
    type: int
    default: 0
  cpu_reservation_mhz:
    description:
      - What it is sure of, in MHz. For vSphere.
    type: int
    default: 0
  memory_reservation_mib:
    description:
      - What it is sure of, in MiB. For vSphere.
    type: int
    default: 0
  expandable:
    description:
      - Whether it may borrow what its parent is sure of. For vSphere.
    type: bool
    default: true
  force:
    description:
      - Whether it may be made smaller than what is in it. That stays, and nothing new is let in. Otherwise it is
        refused.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for everything that the module does.
    type: int
    default: 60
seealso:
  - module: stockyard.container_hosts.pool_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Let a team have ten hosts and 8 GiB, given out one and a half times
  stockyard.container_hosts.pool:
    name: ci
    hosts: 10
    memory_mib: 8192
    memory_overcommit: 1.5

- name: Have hosts in it
  stockyard.container_hosts.fleet:
    name: runner
    template: docker
    count: 10
    pool: ci

- name: Let it grow while they run
  stockyard.container_hosts.pool:
    name: ci
    hosts: 20
    memory_mib: 16384
    memory_overcommit: 1.5
"""

RETURN = r"""
pool:
  description: The pool as it is now, empty when there is none.
  returned: success
  type: dict
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
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["change pool ci: hosts, memory_mib changed"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["pool ci: changed"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: pool ci
    cause: 10 of 5 hosts are taken
    remedy: "take hosts away first, or force it: then nothing new is let in"
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import POOL, pool_spec

OPTIONS = {
    **POOL,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

ACTS = {
    "present": lambda yard, params, how: yard.pool(pool_spec(params), force=params["force"], **how),
    "absent": lambda yard, params, how: yard.remove_pool(params["name"], params["tenant"], **how),
}


def main() -> None:
    """Run the module."""
    module = changing(OPTIONS)
    change(module, ACTS[module.params["state"]], lambda found: {"pool": found[0] if found else {}})


if __name__ == "__main__":
    main()
