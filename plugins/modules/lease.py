# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module lease."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: Manage a lease of a container host
version_added: 0.1.0
description:
  - Leases a ready host of a fleet to a holder until a time. If several holders request hosts at the
    same time, each host still gets only one holder.
  - The holder gets a client certificate that is valid for this host only and expires with the
    lease.
  - After the end of the lease the host is deleted, and the next run of
    M(stockyard.container_hosts.fleet) creates another one. A host is never leased to a second
    holder.
  - An expired lease cannot be renewed. Its release changes nothing.
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
    details: Check mode cannot predict whether a host will be free.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Not with O(renew=true), and not with O(id) and O(state=present), which extend the lease in
        every run.
options:
  state:
    description:
      - V(present) returns the lease that O(holder) has of the matching hosts, or creates a new
        lease.
      - V(released) releases the lease. Its host is deleted.
    type: str
    choices: [present, released]
    default: present
  holder:
    description:
      - The holder of the lease, such as the number of a job. One line of at most 100 characters.
      - A holder has one lease of a fleet. Two jobs with the same holder share the lease.
    type: str
  fleet:
    description: The fleet that the host must belong to. By default any fleet of the tenant.
    type: str
  labels:
    description:
      - The labels that the host must have. It can have others too.
      - With O(holder), at least one of O(fleet), O(labels) and O(pool) is required.
    type: dict
    default: {}
  pool:
    description: The pool that the host must belong to. By default any pool.
    type: str
  duration:
    description:
      - The duration of the lease from now, as in V(90s), V(45m), V(2h) or V(1d). At most 30 days.
    type: str
    default: 1h
  id:
    description:
      - The ID of a lease, instead of O(holder). With O(state=present) the lease is renewed for
        O(duration).
      - With O(state=released), a lease that has ended changes nothing. An ID that this yard never
        issued is an error.
    type: str
  renew:
    description: Whether to renew the existing lease of the holder for O(duration) from now.
    type: bool
    default: false
  wait:
    description:
      - Whether to wait for a host, for at most O(timeout). If no host is free, one is created, as
        far as O(ignore:max) of the fleet and the limits of the pool allow.
      - Requests for the same hosts are served in the order of their arrival, on all controllers.
      - With V(false) the module fails if no host is free, or if other requests wait for the free
        hosts.
    type: bool
    default: false
  replace:
    description:
      - Whether O(state=released) immediately creates another host. With V(false) the next run of
        the fleet creates it.
    type: bool
    default: false
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.lease_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.reap
"""

EXAMPLES = r"""
- name: Lease a host for half an hour
  stockyard.container_hosts.lease:
    fleet: ci
    holder: job-17
    duration: 30m
  register: leased

- name: Use Docker on the host
  ansible.builtin.command: docker info
  environment: "{{ leased.lease.docker.environment }}"
  changed_when: false

- name: Renew the lease
  stockyard.container_hosts.lease:
    id: "{{ leased.lease.id }}"
    duration: 30m

- name: Release the lease
  stockyard.container_hosts.lease:
    id: "{{ leased.lease.id }}"
    state: released
"""

RETURN = r"""
lease:
  description:
    - The lease after the run. Empty after its release, and in check mode if it does not exist yet.
  returned: success
  type: dict
  contains:
    id:
      description:
        - The ID of the lease. With the ID a lease can be renewed and released. It gives no access
          to the host.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    holder:
      description: The holder of the lease.
      type: str
      sample: job-17
    taken:
      description: The time at which the lease began, in seconds since the epoch.
      type: float
      sample: 1798758000.0
    until:
      description: The time at which the lease ends, in seconds since the epoch.
      type: float
      sample: 1798761600.0
    ended:
      description: Whether the lease has expired. Its host will be deleted.
      type: bool
      sample: false
    certificate:
      description: The serial number of the client certificate of the lease, in hexadecimal digits.
      type: str
      sample: 3f8a11c09be2
    host:
      description: The name of the host.
      type: str
      sample: ci-1
    fleet:
      description: The fleet that the host belongs to.
      type: str
      sample: ci
    tenant:
      description: The tenant that the host belongs to.
      type: str
      sample: default
    address:
      description: The address of the host.
      type: str
      sample: 127.77.12.5
    docker:
      description:
        - The connection parameters for a Docker client, with a certificate that is valid for this
          host only.
      type: dict
      contains:
        endpoint:
          description: The URL of the Docker API.
          type: str
          sample: tcp://127.77.12.5:2376
        environment:
          description: The environment variables that a Docker client needs.
          type: dict
          sample:
            DOCKER_HOST: tcp://127.77.12.5:2376
            DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-…
            DOCKER_TLS_VERIFY: "1"
        export:
          description: A line for a POSIX shell that sets these variables.
          type: str
          sample: >-
            export DOCKER_HOST=tcp://127.77.12.5:2376
            DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-…
            DOCKER_TLS_VERIFY=1
        context:
          description: A command line that creates a context for Docker's own client.
          type: str
          sample: docker context create ci-1 --docker host=tcp://127.77.12.5:2376,ca=…,cert=…,key=…
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["lease host ci-1: job-17 requests a lease"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host ci-1: leased by job-17 until 2026-12-31 23:00:00 UTC"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: Busy
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: fleet ci
    cause:
      description: The cause. It can be empty.
      type: str
      sample: job-16 has it
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: wait longer, or raise min_ready and max of the fleet and converge it
"""

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils._leases import (
    LEASE,
    change_lease,
)

OPTIONS = {
    **LEASE,
    "state": {"type": "str", "choices": ["present", "released"], "default": "present"},
    "id": {"type": "str"},
    "renew": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": False},
    "replace": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    module = mutating_module(
        OPTIONS, required_one_of=[("id", "holder")], mutually_exclusive=[("id", "holder")]
    )
    run_change(module, change_lease, lambda leases: {"lease": leases[0] if leases else {}})


if __name__ == "__main__":
    main()
