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
  - Lists the hosts of a yard, both members of fleets and single hosts, with the parameters for SSH
    and Docker connections.
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
    description: Return only the host with this name.
    type: str
  fleet:
    description: Return only hosts of this fleet. An empty string selects single hosts.
    type: str
  tenant:
    description: Return only hosts of this tenant.
    type: str
  check_updates:
    description:
      - Whether to compare the installed packages with the mirrors that the templates were built
        from. The comparison can take minutes.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: List the hosts of one fleet
  stockyard.container_hosts.host_info:
    fleet: web
  register: web

- name: Add the hosts to the inventory, with their pinned host keys
  ansible.builtin.add_host:
    name: "{{ item.name }}"
    groups: web
    ansible_host: "{{ item.ssh.host }}"
    ansible_port: "{{ item.ssh.port }}"
    ansible_user: "{{ item.ssh.user }}"
    ansible_ssh_private_key_file: "{{ item.ssh.private_key }}"
    ansible_ssh_common_args: "-o UserKnownHostsFile={{ item.ssh.known_hosts }}"
  loop: "{{ web.hosts }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
hosts:
  description: The hosts, sorted by name.
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
    missing_updates:
      description:
        - The installed packages for which the mirror of the template offers a later version. Empty
          if the host is up to date, null if that is not known or was not requested. Packages whose
          later version was already available when the template was built are not listed.
      returned: when O(check_updates=true)
      type: list
      elements: dict
      contains:
        package:
          description: The name of the package.
          type: str
          sample: openssl
        installed:
          description: The installed version. Empty if the package is not installed.
          type: str
          sample: 3.0.15-1~deb12u1
        available:
          description: The version that the mirror offers.
          type: str
          sample: 3.0.16-1~deb12u1
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

NAMES = ("tenant", "fleet", "name")
CHECK_UPDATES = {"type": "bool", "default": False}


def main() -> None:
    """Run the module."""
    module = info_module(
        {**{key: {"type": "str"} for key in NAMES}, "check_updates": CHECK_UPDATES}
    )
    run_query(
        module,
        lambda yard, params: {
            "hosts": yard.hosts.list(
                *(params[n] for n in NAMES), check_updates=params["check_updates"]
            )
        },
    )


if __name__ == "__main__":
    main()
