# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Manage a single container host
version_added: 0.1.0
description:
  - Creates, starts, restarts, replaces, suspends, resumes or deletes one host by its name. The host
    is forked from the newest generation of a template.
  - A member of a fleet can be restarted, replaced, suspended, resumed or deleted by its name. Its
    options are declared with its fleet, and O(state=present) is an error for it.
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
    details: Not for O(state=restarted) and O(state=replaced), which act in every run.
options:
  name:
    description:
      - The name of the host. At most 63 lower-case letters, digits and hyphens. It is also the
        hostname.
    type: str
    required: true
  state:
    description:
      - V(present) converges the host. A missing host is created, a stopped host is started, a
        suspended host is resumed with its memory, and a host that differs from the declaration is
        replaced.
      - V(absent) deletes the host.
      - V(restarted) shuts the host down and boots it. It keeps its identity, disk and endpoints.
      - V(replaced) deletes the host and forks a new one with the same name and a new identity.
      - V(restarted) and V(replaced) create a missing host if O(template) is set.
      - V(suspended) saves the memory of the running host in the storage. It then uses no RAM and no
        CPU time, and keeps its address, record, disk and lease. A host that is off stays off. The
        host must exist; its other options have no effect. A host with an encrypted volume is
        refused, because its memory contains the key of the volume.
      - V(resumed) resumes a suspended host with its memory, and starts a host that is off. The host
        must exist; its other options have no effect.
    type: str
    choices: [present, absent, restarted, replaced, suspended, resumed]
    default: present
  force:
    description:
      - Whether O(state=suspended) also suspends a host that is leased. Its holder can suspend it
        with C(stockyard lease suspend).
    type: bool
    default: false
  template:
    description:
      - The template that the host is forked from, in the same tenant. It can be omitted if the host
        exists.
    type: str
seealso:
  - module: stockyard.container_hosts.host_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Create a host
  stockyard.container_hosts.host:
    name: builder
    template: docker
  register: builder

- name: Print the version of its Docker engine
  ansible.builtin.command:
    argv: [docker, version]
  environment: "{{ builder.host.docker.environment }}"
  changed_when: false

- name: Restart the host
  stockyard.container_hosts.host:
    name: builder
    state: restarted

- name: Suspend a member of a fleet until it is needed
  stockyard.container_hosts.host:
    name: web-1
    state: suspended

- name: Resume it with its memory
  stockyard.container_hosts.host:
    name: web-1
    state: resumed

- name: Replace a member of a fleet
  stockyard.container_hosts.host:
    name: web-2
    state: replaced
"""

RETURN = r"""
host:
  description: The host after the run, or null if it does not exist.
  returned: success
  type: dict
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
  sample: ["restart host builder: the task requests it"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host builder: booted, Docker answers (58.2 s)"]
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
      sample: host web-2
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: declare a template to create the host
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.specs import (
    HOST,
    HOST_STATES,
    single_spec,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **HOST,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(HOST_STATES), "default": "present"},
    "force": {"type": "bool", "default": False},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Change a host as the task declares."""
    name, tenant, state, wait = (params[key] for key in ("name", "tenant", "state", "wait"))
    if state == "absent":
        return yard.hosts.delete(name, tenant, **mode)
    if state == "suspended":
        return yard.hosts.suspend(name, tenant, force=params["force"], **mode)
    if state == "resumed":
        return yard.hosts.resume(name, tenant, wait=wait, **mode)
    spec = single_spec(params)
    if state == "restarted":
        return yard.hosts.restart(spec, wait=wait, **mode)
    if state == "replaced":
        return yard.hosts.replace(spec, wait=wait, **mode)
    return yard.hosts.apply(spec, wait=wait, **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS)
    run_change(module, change, lambda hosts: {"host": hosts[0] if hosts else None})


if __name__ == "__main__":
    main()
