# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet
short_description: Have a number of equal container hosts
version_added: 0.1.0
description:
  - Makes a fleet as declared. Hosts that are missing are forked from the newest generation of the template, hosts that
    are too many are destroyed, hosts that are off are started, and hosts that differ from the declaration, or whose
    Docker does not answer, are replaced.
  - Others take their places first (O(update)). When a new host does not get healthy, the module stops and fails while
    the old ones serve.
  - Hosts whose certificate is about to run out, that trust a CA which is not the tenant's, or that do not know yet what
    was revoked, are admitted anew where they are.
  - Hosts that are leased stay as they are until their lease is over, whatever is declared. Hosts whose lease or time to
    live is over are destroyed, and others take their place.
  - Hosts are called after the fleet, as in C(web-1) and C(web-2).
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.tenant
  - stockyard.container_hosts.host
  - stockyard.container_hosts.fleet
  - stockyard.container_hosts.wait
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: Not with O(recreate=always), which makes every host anew.
options:
  name:
    description:
      - The fleet's name, at most 40 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) makes the fleet as declared.
      - V(absent) destroys all its hosts.
    type: str
    choices: [present, absent]
    default: present
  template:
    description:
      - The template that its hosts are forked from, in the same tenant.
      - Required when O(state=present). In check mode it need not exist yet.
    type: str
seealso:
  - module: stockyard.container_hosts.fleet_info
  - module: stockyard.container_hosts.lease
  - module: stockyard.container_hosts.template
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: Have three hosts with a published port
  stockyard.container_hosts.fleet:
    name: web
    template: docker
    count: 3
    ports: [8080]
    labels:
      stage: test
  register: web

- name: Keep two hosts ready for whoever leases one, ten at most, none older than a working day
  stockyard.container_hosts.fleet:
    name: ci
    template: docker
    count: 2
    min_ready: 2
    max: 10
    ttl: 8h

- name: See how to reach the first
  ansible.builtin.debug:
    msg: "{{ web.hosts[0].ssh.command }}"

- name: Replace hosts two at a time, each when a load balancer has let it go
  stockyard.container_hosts.fleet:
    name: web
    template: docker
    count: 10
    update:
      max_surge: 2
      grace: 120
      hook: [/usr/local/bin/leave-the-balancer, --wait]

- name: Have hosts with names of their own
  stockyard.container_hosts.fleet:
    name: ci
    template: docker
    names: [linux-a, linux-b]

- name: Destroy them
  stockyard.container_hosts.fleet:
    name: web
    state: absent
"""

RETURN = r"""
hosts:
  description: The fleet's hosts as they are now, by name.
  returned: success
  type: list
  elements: dict
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
  sample: ["create host web-1: the fleet is short of it"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: instant fork runs (0.46 s)", "host web-1: has its identity (1.02 s)"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: NotFound
    object: template docker
    cause: ""
    remedy: declare it with the module template, in the same tenant and with the same owner
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import FLEET, fleet_spec

OPTIONS = {
    **FLEET,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

ACTS = {
    "present": lambda yard, params, how: yard.fleet(fleet_spec(params), wait=params["wait"], **how),
    "absent": lambda yard, params, how: yard.remove_fleet(params["name"], params["tenant"], **how),
}


def main() -> None:
    """Run the module."""
    module = changing(
        OPTIONS, required_if=[("state", "present", ["template"])], mutually_exclusive=[("count", "names")]
    )
    change(module, ACTS[module.params["state"]], lambda found: {"hosts": found})


if __name__ == "__main__":
    main()
