# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: List container hosts
version_added: 0.1.0
description:
  - Lists the hosts of a yard, those of fleets and single ones, with what is needed to reach them.
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
      - Only the host of this name.
    type: str
  fleet:
    description:
      - Only hosts of this fleet. The empty text stands for hosts that belong to none.
    type: str
  tenant:
    description:
      - Only hosts of this tenant.
    type: str
  behind:
    description:
      - Whether to ask the mirrors that the templates were built from what later packages there are. That takes a while.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: Look at the hosts of one fleet
  stockyard.container_hosts.host_info:
    fleet: web
  register: found

- name: Put them into the inventory, with their pinned host keys
  ansible.builtin.add_host:
    name: "{{ item.name }}"
    groups: web
    ansible_host: "{{ item.ssh.host }}"
    ansible_port: "{{ item.ssh.port }}"
    ansible_user: "{{ item.ssh.user }}"
    ansible_ssh_private_key_file: "{{ item.ssh.private_key }}"
    ansible_ssh_common_args: "-o UserKnownHostsFile={{ item.ssh.known_hosts }}"
  loop: "{{ found.hosts }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
hosts:
  description: The hosts that were found, by name.
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
    waits:
      description:
        - Why it serves nobody though it runs. A host with encrypted volumes that booted by itself waits for their keys,
          which the next run of M(stockyard.container_hosts.fleet) or M(stockyard.container_hosts.host) gives it.
      type: str
      sample: ""
    drift:
      description:
        - Why it has to be admitted anew. It trusts a CA that is not the tenant's, its certificate is about to run out,
          or its list of revoked certificates is behind. Empty when nothing is due.
        - The next run of M(stockyard.container_hosts.fleet) or M(stockyard.container_hosts.host) mends it where it is.
      type: list
      elements: str
      sample: []
    behind:
      description:
        - The packages that are to be had in a later version at the mirror that its template was built from, and were
          not there when it was built. Empty for a host that is up to date, null where it is not known.
      returned: when O(behind=true)
      type: list
      elements: dict
      sample: [{package: openssl, installed: 3.0.15-1~deb12u1, available: 3.0.16-1~deb12u1}]
    mode:
      description: How it was made, one of V(instant), V(linked) and V(full).
      type: str
      sample: instant
    mode_reason:
      description: Why it was made so, when that is not what was asked for.
      type: str
      sample: ""
    shared:
      description:
        - What it has in common with its template and with every other fork of it, some of V(boot_id), V(dmi_uuid),
          V(kaslr) and V(docker_engine_id).
      type: list
      elements: str
      sample: [boot_id, dmi_uuid, kaslr, docker_engine_id]
    memory:
      description:
        - What its RAM costs the hypervisor now, in MiB. What is private it has alone, what is shared is its template's.
          Null when it is off or may not be read. Not on every hypervisor.
        - The kernel ends the machine with the highest C(oom_score) first when memory is out.
      type: dict
      sample: {private_mib: 41.2, shared_mib: 166.0, oom_score: 671}
    console_log:
      description: The file on the hypervisor that holds what its kernel and services said on the console.
      type: str
      sample: /home/me/.local/share/stockyard/hosts/0f2c7e0e-6d0a-4a3f-a7f5-2d8a1a6f4e55/console.log
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
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking

NAMES = ("tenant", "fleet", "name")
BEHIND = {"type": "bool", "default": False}


def main() -> None:
    """Run the module."""
    module = asking({**{key: {"type": "str"} for key in NAMES}, "behind": BEHIND})
    ask(module, lambda yard, params: {"hosts": yard.hosts(*(params[n] for n in NAMES), behind=params["behind"])})


if __name__ == "__main__":
    main()
