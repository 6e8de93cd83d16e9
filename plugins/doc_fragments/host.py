# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a host, single or in a fleet."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  ports:
    description:
      - The host's TCP ports that the hypervisor publishes on the host's address, for C(docker run
        --publish).
      - The ports 2222 (SSH) and 2376 (Docker) are always published and cannot be in this list.
    type: list
    elements: int
    default: []
  bind:
    description:
      - The IPv4 address of the hypervisor on which O(ports) are published, such as an address of
        its local network, or V(0.0.0.0) for all addresses. By default the host's own address, which
        only the hypervisor itself can reach.
      - SSH and Docker stay on the host's own address.
      - If another host publishes the same port on the same address, the module fails before it
        changes anything.
      - Mutually exclusive with O(network).
    type: str
    default: ""
  publish:
    description:
      - The address of the hypervisor at which other machines reach the host.
      - SSH, Docker and each of O(ports) answer at a separate port of this address. The ports are
        chosen when the host is created, and stay the same until the host is deleted. The host's
        certificate contains the address, and all results name the address and the ports.
      - If the hypervisor does not have the address, or too few ports of the range are free, the
        module fails before it changes anything.
      - A change of this option replaces the host.
      - O(egress) must be V(none) or V(proxy).
      - Mutually exclusive with O(bind) and O(network). Refused on vSphere, because hosts have
        addresses there that other machines can reach.
    type: dict
    suboptions:
      address:
        description: An IPv4 address of the hypervisor, such as V(192.0.2.10).
        type: str
        required: true
      ports:
        description:
          - The range from which each host gets its ports, such as V(20000-20999). The lowest valid
            port is 1024. Several fleets can have the same range.
          - V(auto) is the range from 20000 to 29999.
        type: str
        default: auto
  container_ports:
    description:
      - Whether each TCP port that Docker publishes in the host is reachable at the same port of the
        host's address, as with C(docker run --publish 9999:80) or C(--publish-all).
      - Docker starts a container only after its ports are reachable. A port in use, and more than
        256 ports of containers, make Docker's command fail with the reason.
      - O(ports) are reachable in addition, also without a container.
      - A change of this option replaces the host.
      - Only on V(qemu:///session), and with templates whose security profile is V(trusted) without
        rootless Docker. Mutually exclusive with O(network) and O(publish).
    type: bool
    default: false
  egress:
    description:
      - The destinations that the host can reach.
      - With V(none) the host answers connections but cannot open any.
      - With V(proxy) the host can reach only the HTTP proxy O(egress_proxy). The proxy is available
        at port 3128 of the host's own address, and C(/etc/environment) contains it. Docker,
        containers and builds use the proxy without settings of their own.
      - With V(open) on V(qemu:///session) the host can reach public IPv4 addresses and a name
        server, but no private or link-local addresses, no other hosts, and no address of the
        hypervisor. This requires the packages slirp4netns and nftables on the hypervisor.
      - With V(allow) the host can reach only the destinations of O(egress_allow). This requires
        V(qemu:///session), and the package haproxy in addition.
      - With V(open) and O(network) the host can reach everything that the network can reach. On
        V(qemu:///system) a libvirt network that forwards is required, on vSphere a gateway.
    type: str
    choices: [none, proxy, open, allow]
    default: none
  egress_proxy:
    description:
      - The proxy for O(egress=proxy), as C(host:port). Required with O(egress=proxy), and an error
        with other values of O(egress).
      - The hypervisor connects to the proxy, so the proxy can listen on the hypervisor's own
        loopback.
    type: str
    default: ""
  egress_allow:
    description:
      - With O(egress=allow) the destinations that the host can reach. Addresses and networks such
        as V(192.0.2.7), V(192.0.2.0/24) or V(192.0.2.7:5000) are reachable with TCP and UDP, at all
        ports or at the one that is declared.
      - A name such as V(registry.example.org) or V(*.example.org) is reachable with HTTP at port 80
        and with TLS at port 443, matched by name. V(*.example.org) stands for all names below
        example.org, without example.org itself. A name with another port, as in
        V(registry.example.org:5000), is reachable with TCP at the addresses of the name.
      - With O(egress=open) the addresses and networks in private ranges that the host can reach in
        addition. The private ranges are 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.0.0.0/24 and
        192.168.0.0/16.
      - Addresses of the hypervisor are never reachable, also if they are in such a network.
      - Only on V(qemu:///session), without O(network).
    type: list
    elements: str
    default: []
  network:
    description:
      - The libvirt network from which the host gets its address. C(virsh net-list) lists the
        networks. On libvirt it requires V(qemu:///system).
      - On vSphere the name of a port group. By default the port group in the URI of O(hypervisor).
      - SSH answers at port 22 of that address, Docker at port 2376. All other ports of the host can
        be reached without O(ports).
      - By default the host is isolated behind QEMU's user network, and has a loopback address on
        the hypervisor.
    type: str
    default: ""
  pool:
    description:
      - The pool that the host belongs to, in the same tenant. If the pool has insufficient
        capacity, the module fails before it creates the host, and the error contains the figures.
      - See M(stockyard.container_hosts.pool).
    type: str
    default: ""
  vcpus:
    description:
      - The number of virtual CPUs of the host, at most 255. V(0) uses the number of its template.
      - A running host is resized if the number is between C(vcpus) and C(max_vcpus) of its template
        and the hypervisor supports it. Otherwise the host is replaced. The plan names the action
        and the reason.
    type: int
    default: 0
  memory_mib:
    description:
      - The memory of the host in MiB. V(0) uses the memory of its template.
      - A running host is resized if the value is between C(memory_mib) and C(max_memory_mib) of its
        template. The step is a sixteenth of the difference between the two, but at least 128 MiB.
        Otherwise the rules of O(vcpus) apply.
      - The guest must return memory before it can be reduced. If the guest cannot return it, the
        module fails and the host keeps its memory.
    type: int
    default: 0
  labels:
    description:
      - The labels of each host. Values are strings. A change of labels does not replace a host.
    type: dict
    default: {}
  authorized_keys:
    description:
      - The SSH public keys that can log in as the template's user, each as the text of a C(.pub)
        file.
      - By default a key for the operator is created in O(pki_dir).
    type: list
    elements: str
    default: []
  fork_mode:
    description:
      - The preferred way to create a host. If the hypervisor does not support it, the next one in
        the list is used, and RV(ignore:mode) and RV(ignore:mode_reason) of the host report it.
      - V(instant) resumes the template's frozen memory, shared copy-on-write. The disk is an
        overlay.
      - V(linked) boots from an overlay on the template's disk.
      - V(full) boots from a copy of the template's disk.
    type: str
    choices: [instant, linked, full]
    default: instant
  engine_identity:
    description:
      - V(shared) keeps the Docker engine ID of the template, so that all hosts of one template show
        the same ID.
      - V(unique) gives each host its own engine ID. It restarts Docker in a new host, which takes
        seconds.
    type: str
    choices: [shared, unique]
    default: shared
  volumes:
    description:
      - Data disks that outlive the host. A missing volume is created. Volumes are attached before
        Docker starts in the host, and detached when the host is deleted. No change of a host
        deletes a volume.
      - One host at a time uses a volume. When a host is replaced, its volumes move to the new host
        of the same name. A fleet with volumes therefore creates no additional hosts during a
        replacement, and O(ignore:update.max_surge) has no effect.
      - A change of this option replaces the host. The data on the volumes stay.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The name of the volume. C({host}) in it stands for the host's name, so that each host of
            a fleet has its own volume. In a fleet of more than one host it is required.
        type: str
        required: true
      path:
        description:
          - The path in the host at which the volume is mounted. For C(/var/lib/docker) the template
            must have C(docker=stopped). Docker then starts only after the volume is mounted.
        type: str
        default: /var/lib/docker
      size_gib:
        description:
          - The size of the volume in GiB. A smaller existing volume is enlarged when the host is
            created. A volume is never reduced.
          - By default 10, or the size of O(volumes[].source).
        type: int
      source:
        description:
          - A volume or snapshot to copy when the volume is created, such as a cache of images.
          - On libvirt a copy is immediate and shares its unchanged data with the source. On vSphere
            it is a full copy.
        type: str
        default: ""
  ttl:
    description:
      - The lifetime of a host, counted from its creation, as in V(90m), V(8h) or V(2d). At least
        one minute and at most ten years. By default hosts do not expire.
      - M(stockyard.container_hosts.reap) deletes an expired host if it is not leased. The next run
        of its fleet also deletes it, and creates another one.
      - A change applies to hosts that are created after it.
    type: str
    default: ""
"""
