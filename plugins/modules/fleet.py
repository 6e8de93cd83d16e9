# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet
short_description: Manage a fleet of identical container hosts
version_added: 0.1.0
description:
  - Converges a fleet of container hosts. Missing hosts are forked from the newest generation of the
    template, surplus hosts are deleted, and stopped hosts are started. Hosts that differ from the
    declaration, or whose Docker does not answer, are replaced.
  - A replacement starts its new hosts first if O(update) permits it. If a new host does not become
    healthy, the module stops and fails while the old hosts continue to serve.
  - If the certificate of a host is about to expire, if the host trusts another CA than the
    tenant's, or if its list of revoked certificates is out of date, the certificate of the running
    host is renewed.
  - Leased hosts do not change until their lease ends, even if the declaration changes. Hosts whose
    lease or lifetime has expired are deleted, and new hosts take their place.
  - Hosts are named after the fleet, as in C(web-1) and C(web-2).
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
    details: Not with O(recreate=always), which replaces every host.
options:
  name:
    description: The name of the fleet. At most 40 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) converges the fleet. Suspended hosts are resumed with their memory.
      - V(suspended) saves the memory of the running hosts in the storage. They then use no RAM and
        no CPU time, and keep their addresses, records and disks. Nothing else changes, regardless
        of the other options. No host is created. Leased hosts keep running. If a host has an
        encrypted volume, nothing is suspended, because its memory contains the key of the volume.
      - V(absent) deletes all hosts of the fleet.
    type: str
    choices: [present, suspended, absent]
    default: present
  template:
    description:
      - The template that the hosts are forked from, in the same tenant.
      - Required when O(state=present). In check mode it does not need to exist yet.
    type: str
seealso:
  - module: stockyard.container_hosts.fleet_info
  - module: stockyard.container_hosts.lease
  - module: stockyard.container_hosts.template
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: Create a fleet of three hosts with a published port
  stockyard.container_hosts.fleet:
    name: web
    template: docker
    count: 3
    ports: [8080]
    labels:
      stage: test
  register: web

- name: Keep two hosts ready for leases, at most ten hosts, none older than eight hours
  stockyard.container_hosts.fleet:
    name: ci
    template: docker
    count: 2
    min_ready: 2
    max: 10
    ttl: 8h

- name: Show the SSH command of the first host
  ansible.builtin.debug:
    msg: "{{ web.hosts[0].ssh.command }}"

- name: Replace hosts two at a time, after a load balancer has drained each host
  stockyard.container_hosts.fleet:
    name: web
    template: docker
    count: 10
    update:
      max_surge: 2
      grace: 120
      hook: [/usr/local/bin/drain-from-balancer, --wait]

- name: Create a fleet whose hosts have declared names
  stockyard.container_hosts.fleet:
    name: ci
    template: docker
    names: [linux-a, linux-b]

- name: Delete the fleet
  stockyard.container_hosts.fleet:
    name: web
    state: absent
"""

RETURN = r"""
hosts:
  description: The fleet's hosts after the run, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The host's name, which is also its hostname.
      type: str
      sample: web-1
    uuid:
      description: The UUID of the host on the hypervisor.
      type: str
      sample: 0f2c7e0e-6d0a-4a3f-a7f5-2d8a1a6f4e55
    fleet:
      description: The fleet that the host belongs to. Empty for a single host.
      type: str
      sample: web
    tenant:
      description: The tenant that the host belongs to.
      type: str
      sample: default
    owner:
      description: The owner of the yard.
      type: str
      sample: stockyard
    template:
      description: The template that the host was forked from.
      type: str
      sample: docker
    generation:
      description: The generation of that template, as the first twelve digits of its digest.
      type: str
      sample: 5f3c6a1d2b9e
    labels:
      description: The host's labels.
      type: dict
      sample: {stage: test}
    state:
      description:
        - "The state of the host's machine: V(running), V(paused), V(suspended) (off, with its
          memory saved), V(off) or V(crashed)."
      type: str
      sample: running
    phase:
      description:
        - "The phase of the host's record: V(creating), V(ready), V(draining) or V(deleting)."
      type: str
      sample: ready
    ready:
      description:
        - Whether the host runs, has its identity and the right time, and waits for nothing.
      type: bool
      sample: true
    waits:
      description:
        - The reason why the host runs but does not serve. Empty if it serves. A host with encrypted
          volumes that was started without the controller waits for the keys of its volumes; the
          next convergence of the host or its fleet sends the keys.
      type: str
      sample: ""
    drift:
      description:
        - The reasons why the host's certificate must be renewed, or its clock must be set. Empty if
          both are right. A reason is that the host trusts another CA than the tenant's, that less
          than a third of the life of its certificate is left, that its list of revoked certificates
          is out of date, that its clock differs by more than 10 seconds, or that a process of its
          network has ended. The next convergence of the host or its fleet corrects these.
      type: list
      elements: str
      sample: []
    created:
      description: The time of creation, in seconds since the epoch.
      type: float
      sample: 1767225600.0
    expires:
      description:
        - The time at which the host expires, in seconds since the epoch. 0 if it does not expire.
      type: float
      sample: 0.0
    lease:
      description:
        - The lease of the host, with its holder and its end. Null if the host is not leased.
      type: dict
      contains:
        id:
          description: The ID of the lease.
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
          description:
            - The time at which the lease ends, in seconds since the epoch. From then on it cannot
              be renewed, and the host is deleted.
          type: float
          sample: 1798761600.0
        certificate:
          description:
            - The serial number of the client certificate of the lease, in hexadecimal digits.
          type: str
          sample: 3f8a11c09be2
    mode:
      description: "How the host was created: V(instant), V(linked) or V(full)."
      type: str
      sample: instant
    mode_reason:
      description:
        - The reason for a mode other than the requested one. Empty if the modes are the same.
      type: str
      sample: ""
    fork_mode:
      description: The requested fork mode.
      type: str
      sample: instant
    engine_identity:
      description:
        - "Whether the host shares the Docker engine ID of its template: V(shared) or V(unique)."
      type: str
      sample: shared
    shared:
      description:
        - "The facts that all forks of one template share: some of V(boot_id), V(dmi_uuid), V(kaslr)
          and V(docker_engine_id)."
      type: list
      elements: str
      sample: [boot_id, dmi_uuid, kaslr, docker_engine_id]
    address:
      description: The address at which SSH, Docker and the published ports answer.
      type: str
      sample: 127.77.12.5
    mac:
      description: The MAC address of the host.
      type: str
      sample: 52:54:00:1f:7a:03
    ports:
      description: The published ports, without the ports of SSH and Docker.
      type: list
      elements: int
      sample: [8080]
    published:
      description: The addresses and ports of the hypervisor at which the published ports answer.
      type: list
      elements: str
      sample: [127.77.12.5:8080]
    egress:
      description:
        - "The destinations that the host can reach: V(none), V(proxy), V(open) or V(allow)."
      type: str
      sample: none
    egress_proxy:
      description: The proxy that the host can reach, as C(host:port). Empty if there is none.
      type: str
      sample: ""
    egress_allow:
      description:
        - The destinations of egress V(allow), or those that V(open) adds, as they were declared.
      type: list
      elements: str
      sample: []
    network:
      description: The libvirt network or the port group of the host. Empty for QEMU's user network.
      type: str
      sample: ""
    pool:
      description: The pool that the host is in. Empty if it is in none.
      type: str
      sample: ci
    size:
      description: The nominal size of the host, which counts against the quota of its pool.
      type: dict
      contains:
        vcpus:
          description: The number of virtual CPUs.
          type: int
          sample: 1
        memory_mib:
          description: The memory, in MiB.
          type: int
          sample: 1024
        disk_gib:
          description: The virtual size of the machine's own disk, in GiB.
          type: int
          sample: 8
    volumes:
      description: The volumes that the host declares.
      type: list
      elements: dict
      contains:
        name:
          description: The name of the volume.
          type: str
          sample: web-1-docker
        path:
          description: The path in the host at which the volume is mounted.
          type: str
          sample: /var/lib/docker
    encrypted:
      description: Whether the host's volumes are encrypted.
      type: bool
      sample: false
    identity:
      description: The public facts of the host's identity. Null before the host has its identity.
      type: dict
      contains:
        machine_id:
          description: The machine ID of systemd.
          type: str
          sample: 8c1f3c0b6f8e4b0c9a3a7c6de1f0b2a4
        ssh_host_key:
          description: The public SSH host key, as in V(known_hosts).
          type: str
          sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExample0
        certificate:
          description: The serial number of the server certificate, in hexadecimal digits.
          type: str
          sample: 3f8a11c09be2
        not_after:
          description: The end of that certificate, in seconds since the epoch.
          type: float
          sample: 1798761600.0
        authority:
          description:
            - The fingerprint of the CA that signed the certificate and that the host trusts.
          type: str
          sample: 5f1e0c7a94d2
        revoked:
          description:
            - The client certificates that the host refuses, by serial number, each with its end in
              seconds since the epoch.
          type: dict
          sample: {}
        engine_id:
          description: The Docker engine ID; empty if it was not read.
          type: str
          sample: ""
    ssh_user:
      description: The user for SSH logins.
      type: str
      sample: stockyard
    ssh:
      description: The connection parameters for SSH.
      type: dict
      contains:
        host:
          description: The address at which the host answers.
          type: str
          sample: 127.77.12.5
        port:
          description: The port at that address.
          type: int
          sample: 2222
        user:
          description: The user for the login.
          type: str
          sample: stockyard
        known_hosts:
          description: The file that contains the host's pinned key.
          type: str
          sample: /home/me/.config/stockyard/stockyard/default/known_hosts
        private_key:
          description: The file of the operator's private key. Empty if others are declared.
          type: str
          sample: /home/me/.config/stockyard/stockyard/default/ssh/id_ed25519
        command:
          description: A command line for a POSIX shell that logs in and checks the pinned key.
          type: str
          sample: >-
            ssh -p 2222 -o StrictHostKeyChecking=yes -o
            UserKnownHostsFile=/home/me/.config/stockyard/stockyard/default/known_hosts -o
            IdentitiesOnly=yes -i /home/me/.config/stockyard/stockyard/default/ssh/id_ed25519 --
            stockyard@127.77.12.5
        config:
          description:
            - A configuration file for C(ssh -F) and C(Include), in which the tenant's hosts have
              their names.
          type: str
          sample: /home/me/.config/stockyard/stockyard/default/ssh_config
    docker:
      description: The connection parameters for a Docker client.
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
            DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/client
            DOCKER_TLS_VERIFY: "1"
        export:
          description: A line for a POSIX shell that sets these variables.
          type: str
          sample: >-
            export DOCKER_HOST=tcp://127.77.12.5:2376
            DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/client DOCKER_TLS_VERIFY=1
        context:
          description: A command line that creates a context for Docker's own client.
          type: str
          sample: docker context create web-1 --docker host=tcp://127.77.12.5:2376,ca=…,cert=…,key=…
    storage:
      description:
        - The directory or datastore of the host's disk. With C(memory:///FILE) the directory of the
          simulated hypervisor.
      type: str
      sample: /home/me/.local/share/stockyard
    memory:
      description:
        - The memory of the hypervisor that the host uses now. Null if the host is off or if the
          figures cannot be read.
      returned: on libvirt
      type: dict
      contains:
        private_mib:
          description: The memory that belongs to this host alone, in MiB.
          type: float
          sample: 41.2
        shared_mib:
          description: The memory that belongs to the template, in MiB.
          type: float
          sample: 166.0
        oom_score:
          description:
            - The score of the machine in the hypervisor's kernel. When memory runs out, the kernel
              ends the machine with the highest score first.
          type: int
          sample: 671
    console_log:
      description: The file on the hypervisor with the log of the host's console.
      returned: on libvirt
      type: str
      sample: /home/me/.local/share/stockyard/hosts/0f2c7e0e-6d0a-4a3f-a7f5-2d8a1a6f4e55/console.log
    disk_layers:
      description:
        - The number of layers that branches put under the host's disk. The chain is shortened
          before it has more than eight layers.
      returned: on libvirt
      type: int
      sample: 1
    refused:
      description:
        - The destinations that the host tried to reach and that V(egress_allow) does not contain.
          Recorded within 5 seconds, and absent with another egress than V(allow).
      returned: on libvirt
      type: list
      elements: dict
      contains:
        destination:
          description:
            - An address, or a name from a question of DNS, a TLS connection or a request of HTTP.
              C((no name)) stands for connections without a name, and C((others)) for all
              destinations beyond the first 256.
          type: str
          sample: telemetry.example.org
        protocol:
          description: V(dns), V(tls), V(http), V(tcp), V(udp) or V(icmp).
          type: str
          sample: dns
        port:
          description: The port; 0 for DNS and ICMP.
          type: int
          sample: 0
        count:
          description: The number of attempts, since the host was created.
          type: int
          sample: 12
    container_ports:
      description: The ports of containers that are forwarded now, if the option is set.
      returned: on libvirt
      type: list
      elements: int
      sample: [9999]
    esxi_host:
      description: The ESXi host that the machine runs on. Empty if the machine does not exist yet.
      returned: on vSphere
      type: str
      sample: esxi-3.example.org
    cluster:
      description: The cluster of the machine.
      returned: on vSphere
      type: str
      sample: cluster1
    folder:
      description: The folder of the machine in vCenter.
      returned: on vSphere
      type: str
      sample: Build/CI
    resource_pool:
      description: The resource pool of the hypervisor's URI. Empty for the cluster's own.
      returned: on vSphere
      type: str
      sample: ""
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["create host web-1: the fleet has 0 of 2 hosts"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: started as instant fork (0.46 s)", "host web-1: Docker answers (1.02 s)"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: NotFound
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: template docker
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: declare it with the module template, in the same tenant and with the same owner
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.specs import (
    FLEET,
    FLEET_STATES,
    fleet_spec,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **FLEET,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": FLEET_STATES, "default": "present"},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Converge, suspend or delete a fleet as the task declares."""
    if params["state"] == "absent":
        return yard.fleets.delete(params["name"], params["tenant"], **mode)
    if params["state"] == "suspended":
        return yard.fleets.suspend(params["name"], params["tenant"], **mode)
    return yard.fleets.apply(fleet_spec(params), wait=params["wait"], **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(
        OPTIONS,
        required_if=[("state", "present", ["template"])],
        mutually_exclusive=[("count", "names")],
    )
    run_change(module, change, lambda hosts: {"hosts": hosts})


if __name__ == "__main__":
    main()
