# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Have, restart or replace one container host
version_added: 0.1.0
description:
  - Has one host by its name, forked from the newest generation of a template.
  - A member of a fleet can be restarted, replaced or destroyed by its name. What it is like is its fleet's declaration.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.tenant
  - stockyard.container_hosts.host
  - stockyard.container_hosts.wait
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Not for O(state=restarted) and O(state=replaced), which act every time.
options:
  name:
    description:
      - The host's name, at most 63 lower-case letters, digits and hyphens. It is also its hostname.
    type: str
    required: true
  state:
    description:
      - V(present) has the host as declared. It is made when there is none, started when it is off, and replaced when it
        differs.
      - V(absent) destroys it.
      - V(restarted) shuts it down and boots it. It keeps its identity, its disk and its endpoints.
      - V(replaced) destroys it and forks a new one of the same name, with a new identity.
      - With V(restarted) and V(replaced), a host that is not there is made, if O(template) is given.
    type: str
    choices: [present, absent, restarted, replaced]
    default: present
  template:
    description:
      - The template that it is forked from, in the same tenant. It may be left out when the host is there.
    type: str
seealso:
  - module: stockyard.container_hosts.host_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Have one host
  stockyard.container_hosts.host:
    name: builder
    template: docker
  register: builder

- name: Ask its Docker engine for its version
  ansible.builtin.command:
    argv: [docker, version]
  environment: "{{ builder.host.docker.environment }}"
  changed_when: false

- name: Boot it anew
  stockyard.container_hosts.host:
    name: builder
    state: restarted

- name: Destroy a member of a fleet and fork it again
  stockyard.container_hosts.host:
    name: web-2
    state: replaced
"""

RETURN = r"""
host:
  description: The host as it is now, or null when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: The host's name, which is also its hostname.
      type: str
      sample: web-1
    fleet:
      description: The fleet that it belongs to, empty for a host of its own.
      type: str
      sample: web
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    template:
      description: The template that it was forked from.
      type: str
      sample: docker
    generation:
      description: The generation of that template, as the first twelve digits of its digest.
      type: str
      sample: 5f3c6a1d2b9e
    labels:
      description: Its labels.
      type: dict
      sample: {stage: test}
    state:
      description: What its machine does, one of V(running), V(paused), V(off) and V(crashed).
      type: str
      sample: running
    ready:
      description: Whether it is complete and running, and waits for nothing.
      type: bool
      sample: true
    drift:
      description:
        - Why it has to be admitted anew. It trusts a CA that is not the tenant's, its certificate is about to run out,
          or its list of revoked certificates is behind. Empty when nothing is due.
        - The next run of M(stockyard.container_hosts.fleet) or M(stockyard.container_hosts.host) mends it where it is.
      type: list
      elements: str
      sample: []
    mode:
      description: How it was made, one of V(instant), V(linked) and V(full).
      type: str
      sample: instant
    mode_reason:
      description: Why it was made so, when that is not what was asked for.
      type: str
      sample: ""
    address:
      description: The address where SSH, Docker and published ports answer.
      type: str
      sample: 127.77.12.5
    ports:
      description: The published ports beside those of SSH and Docker.
      type: list
      elements: int
      sample: [8080]
    published:
      description: Where the hypervisor listens for these ports.
      type: list
      elements: str
      sample: ["127.77.12.5:8080"]
    egress:
      description: What the host reaches outside, one of V(none), V(proxy) and V(open).
      type: str
      sample: none
    egress_proxy:
      description: The proxy that it reaches, as C(host:port). Empty when there is none.
      type: str
      sample: ""
    network:
      description: The network that it has its address of, on vSphere a port group. Empty for QEMU's user network.
      type: str
      sample: ""
    pool:
      description: The pool that it is in, empty for none.
      type: str
      sample: ci
    size:
      description: Its nominal size, by which it counts in its pool.
      type: dict
      sample: {vcpus: 1, memory_mib: 1024, disk_gib: 8}
    volumes:
      description: The volumes that it is declared to have, each with the place where it is mounted.
      type: list
      elements: dict
      sample: [{name: web-1-docker, path: /var/lib/docker}]
    expires:
      description: When its time to live is over, in seconds since the epoch. V(0) for a host that has no end.
      type: float
      sample: 0.0
    lease:
      description: Who has it, and until when. Empty for a host that nobody leased.
      type: dict
      sample:
        id: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
        holder: job-17
        taken: 1798758000.0
        until: 1798761600.0
        certificate: 3f8a11c09be2
    identity:
      description: What makes it itself. Public facts only.
      type: dict
      sample:
        machine_id: 8c1f3c0b6f8e4b0c9a3a7c6de1f0b2a4
        ssh_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample0
        certificate: 3f8a11c09be2
        not_after: 1798761600.0
        authority: 5f1e0c7a94d2
        revoked: {}
        engine_id: ""
    ssh:
      description: How to log in. RV(ignore:command) checks the host key that was pinned when the host was made.
      type: dict
      sample:
        host: 127.77.12.5
        port: 2222
        user: stockyard
        known_hosts: /home/me/.config/stockyard/stockyard/default/known_hosts
        private_key: /home/me/.config/stockyard/stockyard/default/ssh/id_ed25519
        command: >-
          ssh -p 2222 -o StrictHostKeyChecking=yes
          -o UserKnownHostsFile=/home/me/.config/stockyard/stockyard/default/known_hosts -o IdentitiesOnly=yes
          -i /home/me/.config/stockyard/stockyard/default/ssh/id_ed25519 stockyard@127.77.12.5
    docker:
      description: How a Docker client gets at it, over mutual TLS.
      type: dict
      sample:
        endpoint: tcp://127.77.12.5:2376
        environment:
          DOCKER_HOST: tcp://127.77.12.5:2376
          DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/client
          DOCKER_TLS_VERIFY: "1"
        export: >-
          export DOCKER_HOST=tcp://127.77.12.5:2376
          DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/client DOCKER_TLS_VERIFY=1
        context: >-
          docker context create web-1 --docker
          host=tcp://127.77.12.5:2376,ca=/home/me/.config/stockyard/stockyard/default/client/ca.pem,cert=/home/me/.config/stockyard/stockyard/default/client/cert.pem,key=/home/me/.config/stockyard/stockyard/default/client/key.pem
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["restart host builder: it was asked for"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host builder: booted, Docker answers (58.2 s)"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: host web-2
    cause: ""
    remedy: change the fleet's declaration, or use restarted, replaced or absent
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import HOST, HOST_STATES, single_spec

OPTIONS = {
    **HOST,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(HOST_STATES), "default": "present"},
}


def main() -> None:
    """Run the module."""
    change(
        changing(OPTIONS),
        lambda yard, params, how: yard.host(single_spec(params), params["state"], wait=params["wait"], **how),
        lambda found: {"host": found[0] if found else None},
    )


if __name__ == "__main__":
    main()
