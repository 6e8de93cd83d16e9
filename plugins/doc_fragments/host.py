# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a host, alone or in a fleet."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  ports:
    description:
      - TCP ports of the host that the hypervisor publishes on the host's address, for C(docker run --publish).
      - The ports 2222 (SSH) and 2376 (Docker) are always published and cannot be named here.
    type: list
    elements: int
    default: []
  bind:
    description:
      - The IPv4 address of the hypervisor that O(ports) are published on, such as an address of its local network, or
        V(0.0.0.0) for all. By default the host's own address, which only the hypervisor itself reaches.
      - SSH and Docker stay on the host's own address.
      - Two hosts cannot publish one port on one address. That is an error before anything is made.
    type: str
    default: ''
  egress:
    description:
      - What the host reaches outside of itself.
      - V(none) is nothing. The host answers, and opens no connection.
      - V(proxy) is the HTTP proxy O(egress_proxy) and nothing else. The host finds it at its own address, port 3128,
        and has that in C(/etc/environment). Docker takes it from there when it starts. Use O(engine_identity=unique) or
        a template with stopped Docker, or restart Docker.
      - V(open) is the network that O(network) leads to. It needs a libvirt network that forwards, or on vSphere a
        gateway. Without O(network) it is refused, because the user network would let the host reach the hypervisor's
        loopback.
    type: str
    choices: [none, proxy, open]
    default: none
  egress_proxy:
    description:
      - The proxy for O(egress=proxy), as C(host:port). It is reached from the hypervisor, so that it may be on the
        hypervisor's own loopback.
    type: str
    default: ''
  network:
    description:
      - The libvirt network that the host gets an address of, as in C(virsh net-list). On libvirt it is for
        V(qemu:///system) only.
      - On vSphere the port group that the URI of O(hypervisor) names.
      - SSH answers at port 22 of that address, Docker at 2376, and every port of the host without O(ports).
      - By default the host is alone behind QEMU's user network, with a loopback address on the hypervisor.
    type: str
    default: ''
  pool:
    description:
      - The pool that the host is in, of the same tenant. A host that it has no room for is refused with the numbers,
        before anything is made. See M(stockyard.container_hosts.pool).
    type: str
    default: ''
  vcpus:
    description:
      - Virtual CPUs of the host. As its template has when it is V(0).
      - A change is made while the host runs, from the C(vcpus) of its template up to its C(max_vcpus). Where that
        cannot be, the host is replaced. The plan says which, and why.
    type: int
    default: 0
  memory_mib:
    description:
      - Memory of the host in MiB. As its template has when it is V(0).
      - A change is made while the host runs, from the C(memory_mib) of its template up to its C(max_memory_mib), in
        steps of a sixteenth of what lies between them, or of 128 MiB if that is more. Otherwise as with O(vcpus).
      - Memory is given back by the guest. Where it cannot, the module fails and the host keeps what it has.
    type: int
    default: 0
  labels:
    description:
      - Labels that each host carries. Values are strings. A change of labels keeps the host.
    type: dict
    default: {}
  authorized_keys:
    description:
      - SSH public keys that may log in as the template's user, each as the text of a C(.pub) file.
      - By default a key that is made in O(pki_dir) for the operator.
    type: list
    elements: str
    default: []
  fork_mode:
    description:
      - How a host is made, at best. When the hypervisor cannot do it, the next best is taken, and the host's
        RV(ignore:mode) and RV(ignore:mode_reason) say so.
      - V(instant) resumes the template's frozen memory, shared copy-on-write. The disk is an overlay.
      - V(linked) boots from an overlay on the template's disk.
      - V(full) boots from a copy of the template's disk.
    type: str
    choices: [instant, linked, full]
    default: instant
  engine_identity:
    description:
      - V(shared) keeps the Docker engine ID of the template, so that all hosts of one template show the same.
      - V(unique) gives each host an engine ID of its own. It restarts Docker in the new host, which takes seconds.
    type: str
    choices: [shared, unique]
    default: shared
  volumes:
    description:
      - Data disks that outlive the host. They are plugged in before Docker of the host is opened, made when they are
        not there, and let go when the host is destroyed. Nothing that happens to a host deletes one.
      - One host at a time has a volume. A host that is replaced has its volumes handed on to the next of its name, so a
        fleet with volumes makes no new host beside the old one. O(ignore:update.max_surge) has no effect then.
      - A change replaces the host. What is on the volumes stays.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The volume's name. C({host}) in it stands for the host's name, so that each host of a fleet has one of its
            own. In a fleet of more than one host it is needed.
        type: str
        required: true
      path:
        description:
          - Where it is mounted. For C(/var/lib/docker) the template needs C(docker=stopped). Docker starts when it is
            mounted, and never without it.
        type: str
        default: /var/lib/docker
      size_gib:
        description:
          - Its size in GiB. A smaller one is grown when the host is made. None is ever shrunk.
          - By default 10, or that of O(volumes[].source).
        type: int
      source:
        description:
          - A volume or snapshot that it is a copy of when it is made, such as a cache of images. A copy takes no time
            and shares what it does not change. On vSphere it is a whole one.
        type: str
        default: ''
  ttl:
    description:
      - How long a host lives, from its making on, as in V(90m), V(8h) or V(2d). By default for ever.
      - When its time is over, and nobody has leased it, the module M(stockyard.container_hosts.reap) destroys it. The
        next run of its fleet does too, and makes another.
      - A change is for hosts that are made from then on.
    type: str
    default: ''
"""
