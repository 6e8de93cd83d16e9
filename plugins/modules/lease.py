# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module lease."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: Take a ready container host for a while
version_added: 0.1.0
description:
  - Takes a host of a fleet that is ready and that nobody has, for a holder, until a time. However many ask at once, a
    host has one holder.
  - The holder gets a client certificate that opens this host and no other, and that ends with the lease.
  - When the lease is over the host is destroyed, and the next run of M(stockyard.container_hosts.fleet) makes another.
    A host that somebody had is never given to somebody else.
  - A lease that ran out cannot be renewed, and giving it back changes nothing.
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
    details: Whether a host will be free cannot be told.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: Not with O(renew=true), nor with O(id) and O(state=present), which let the lease last longer every time.
options:
  state:
    description:
      - V(present) has a lease. The one that the O(holder) has of these hosts, or else a new one.
      - V(released) gives it back. The host is destroyed.
    type: str
    choices: [present, released]
    default: present
  holder:
    description:
      - Whose it is, such as the number of a job. A line of at most 100 characters.
      - One holder has one lease of a fleet. Two jobs of the same name share it.
    type: str
  fleet:
    description:
      - The fleet that the host is to be of. Any fleet of the tenant when it is not given.
    type: str
  labels:
    description:
      - Labels that the host is to carry. It may carry others too.
      - At least one of O(fleet), O(labels) and O(pool) is needed with O(holder).
    type: dict
    default: {}
  pool:
    description:
      - The pool that the host is to be in.
    type: str
  duration:
    description:
      - How long the lease lasts, from now on, as in V(90s), V(45m), V(2h) or V(1d). At most 30 days.
    type: str
    default: 1h
  id:
    description:
      - The number of a lease, instead of O(holder). With O(state=present) it is renewed for O(duration).
    type: str
  renew:
    description:
      - Whether to let the lease that the holder has last for O(duration) from now on.
    type: bool
    default: false
  wait:
    description:
      - Whether to wait, at most O(timeout), until a host is free. Else it is an error when none is.
    type: bool
    default: false
  replace:
    description:
      - With O(state=released), whether to make another host at once. Else the next run of the fleet does.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for everything that the module does.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.lease_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.reap
"""

EXAMPLES = r"""
- name: Take a host for half an hour
  stockyard.container_hosts.lease:
    fleet: ci
    holder: job-17
    duration: 30m
  register: mine

- name: Use it
  ansible.builtin.command: docker info
  environment: "{{ mine.lease.docker.environment }}"
  changed_when: false

- name: Ask for more time
  stockyard.container_hosts.lease:
    id: "{{ mine.lease.id }}"
    duration: 30m

- name: Give it back
  stockyard.container_hosts.lease:
    id: "{{ mine.lease.id }}"
    state: released
"""

RETURN = r"""
lease:
  description: The lease as it is now. Empty after it was given back, and in check mode where there is none yet.
  returned: success
  type: dict
  contains:
    id:
      description: Its number. It asks for more time and gives the host back; it opens nothing.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    holder:
      description: Whose it is.
      type: str
      sample: job-17
    taken:
      description: When it began, in seconds since the epoch.
      type: float
      sample: 1798758000.0
    until:
      description: When it ends, in seconds since the epoch.
      type: float
      sample: 1798761600.0
    ended:
      description: Whether it is over. Its host is about to be taken away then.
      type: bool
      sample: false
    certificate:
      description: The serial number of its client certificate, in hex.
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
      description: The tenant that it belongs to.
      type: str
      sample: default
    address:
      description: The address of the host.
      type: str
      sample: 127.77.12.5
    docker:
      description: How a Docker client gets at the host, with a certificate that opens this host and no other.
      type: dict
      sample:
        endpoint: tcp://127.77.12.5:2376
        environment:
          DOCKER_HOST: tcp://127.77.12.5:2376
          DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
          DOCKER_TLS_VERIFY: "1"
        export: >-
          export DOCKER_HOST=tcp://127.77.12.5:2376
          DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
          DOCKER_TLS_VERIFY=1
        context: >-
          docker context create ci-1 --docker host=tcp://127.77.12.5:2376,ca=…,cert=…,key=…
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["lease host ci-1: job-17 asks for one"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host ci-1: leased by job-17 until 2026-12-31 23:00:00 UTC"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Busy
    object: fleet ci
    cause: job-16 has it
    remedy: wait longer, or raise min_ready and max of the fleet and converge it
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._leases import LEASE, leasing

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
    module = changing(OPTIONS, required_one_of=[("id", "holder")], mutually_exclusive=[("id", "holder")])
    change(module, leasing, lambda found: {"lease": found[0] if found else {}})


if __name__ == "__main__":
    main()
