# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_info
short_description: List templates of container hosts
version_added: 0.1.0
description:
  - Lists all generations of the templates of a yard, oldest first.
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
    description: Return only generations of the template with this name.
    type: str
  tenant:
    description: Return only templates of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: List all templates
  stockyard.container_hosts.template_info:
  register: all_templates

- name: Show the templates that cannot be used
  ansible.builtin.debug:
    msg: "{{ all_templates.templates | rejectattr('usable') | map(attribute='name') }}"
"""

RETURN = r"""
templates:
  description: The generations of the templates, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The template's name.
      type: str
      sample: docker
    uuid:
      description: The UUID of the generation on the hypervisor.
      type: str
      sample: 4f0d2d0e-93f1-4f9b-8b55-6b7d0a0f9c11
    tenant:
      description: The tenant that the template belongs to.
      type: str
      sample: default
    owner:
      description: The owner of the yard.
      type: str
      sample: stockyard
    generation:
      description: The first twelve digits of the digest of image and hardware.
      type: str
      sample: 5f3c6a1d2b9e
    phase:
      description:
        - "The phase of the generation's record: V(building), V(booting), V(frozen) or V(deleting)."
      type: str
      sample: frozen
    usable:
      description: Whether hosts can be forked from this generation.
      type: bool
      sample: true
    problem:
      description: The reason why the generation cannot be used. Empty if it can.
      type: str
      sample: ""
    image:
      description: The SHA-256 digest of the image, including its package versions.
      type: str
      sample: 0d9e4c2f7b1a8e6354c1f0a9d8b7e6f5a4c3b2d1e0f9a8b7c6d5e4f3a2b1c0d9
    hardware:
      description: The virtual hardware that was frozen.
      type: dict
      contains:
        vcpus:
          description: The number of virtual CPUs at start.
          type: int
          sample: 1
        max_vcpus:
          description: The number of virtual CPUs that it can get later.
          type: int
          sample: 4
        memory_mib:
          description: The memory, in MiB.
          type: int
          sample: 1024
        spare_ports:
          description: The number of free PCI Express root ports for hot-plug.
          type: int
          sample: 4
        accelerator:
          description: V(auto) (KVM if the CPU has it, else TCG), V(kvm) or V(tcg).
          type: str
          sample: auto
        cpu:
          description: The processor.
          type: dict
          contains:
            model:
              description:
                - The CPU model, as libvirt names it. Empty for the hypervisor's own CPU with KVM,
                  and for all that can be emulated otherwise.
              type: str
              sample: Skylake-Server-v4
    platform:
      description:
        - The emulator and the processor that it was frozen with. Null if they are not known.
      type: dict
      contains:
        emulator:
          description: The version of QEMU.
          type: str
          sample: 10.0.7
        machine:
          description: The versioned machine type.
          type: str
          sample: pc-q35-10.0
        accelerator:
          description: V(kvm) or V(tcg).
          type: str
          sample: kvm
        cpu_model:
          description: The CPU model, as libvirt names it.
          type: str
          sample: Skylake-Server-IBRS
        cpu_features:
          description:
            - The features that the CPU has in addition to its model. A feature of the model that
              the CPU lacks begins with an exclamation mark.
          type: list
          elements: str
          sample: [avx512-vnni, "!hle"]
        kernel:
          description: The kernel release of the hypervisor.
          type: str
          sample: 6.12.57+deb13-amd64
        microcode:
          description: The microcode version of the hypervisor's processors.
          type: str
          sample: "0x5003901"
    drift:
      description: The differences of the hypervisor's emulator and processor from the frozen ones.
      type: list
      elements: dict
      contains:
        fact:
          description: "The fact that differs: a key of V(platform)."
          type: str
          sample: kernel
        frozen:
          description:
            - The value that the template was frozen with. Of features only those that the
              hypervisor does not have.
          type: str
          sample: 6.12.57+deb13-amd64
        current:
          description:
            - The value of the hypervisor. Of features only those that the template does not have.
              Empty if the hypervisor has no such value.
          type: str
          sample: 6.12.63+deb13-amd64
        prevents_instant_forks:
          description: Whether the frozen memory cannot be resumed because of the difference.
          type: bool
          sample: false
    docker:
      description: "Whether dockerd ran when the template was frozen: V(running) or V(stopped)."
      type: str
      sample: running
    disk_gib:
      description: The virtual size of the disk, in GiB. 0 if it is not known.
      type: int
      sample: 8
    max_memory_mib:
      description:
        - The memory that a running host can get, in MiB. 0 if it gets no more than at start.
      type: int
      sample: 0
    encrypted:
      description: Whether the volumes of its hosts are encrypted.
      type: bool
      sample: false
    provision:
      description: The playbook or roles that ran before the freeze. Empty if there were none.
      type: str
      sample: playbook template.yml
    from_host:
      description: The host that it was created from. Empty if it was built or derived.
      type: str
      sample: ""
    parent:
      description: The template that it was derived from. Empty if it was built completely.
      type: str
      sample: ""
    parent_generation:
      description:
        - The first twelve digits of the parent's generation. Empty if it was built completely.
      type: str
      sample: ""
    source:
      description: The sources of the packages. Null if they are not known.
      type: dict
      contains:
        suite:
          description: The Debian release.
          type: str
          sample: bookworm
        packages:
          description: The declared packages. Others are installed as their dependencies.
          type: list
          elements: str
          sample: [docker.io, sudo]
        build:
          description: The mirrors, without user names and passwords.
          type: dict
          contains:
            mirror:
              description: The Debian mirror. Empty for Debian's own.
              type: str
              sample: ""
            security_mirror:
              description: The mirror of the security updates. Empty for none, or for Debian's own.
              type: str
              sample: ""
            proxy:
              description: The HTTP proxy for the download. Empty for none.
              type: str
              sample: ""
            repositories:
              description: The additional repositories.
              type: list
              elements: dict
              contains:
                url:
                  description: The URL of the repository.
                  type: str
                signed_by:
                  description:
                    - The public key of the repository's signatures, ASCII-armored. A signature is
                      always required.
                  type: str
                suite:
                  description:
                    - The suite. Empty for the image's own. A suite that ends with a slash is a
                      directory without components.
                  type: str
                components:
                  description: The components of the suite.
                  type: list
                  elements: str
    mac:
      description: The MAC address of the frozen machine, which no host has.
      type: str
      sample: 52:54:00:1f:7a:01
    ssh_user:
      description: The user for SSH logins in hosts.
      type: str
      sample: stockyard
    created:
      description: The time of creation, in seconds since the epoch.
      type: float
      sample: 1767225600.0
    promoted:
      description:
        - The time at which this generation became current again after later generations, in seconds
          since the epoch. 0 if that never happened.
      type: float
      sample: 0.0
    storage:
      description:
        - The directory or datastore of the generation. With C(memory:///FILE) the directory of the
          simulated hypervisor.
      type: str
      sample: /home/me/.local/share/stockyard
    sizes:
      description: The disk space that the generation uses on the hypervisor.
      returned: on libvirt
      type: dict
      contains:
        disk_mib:
          description: The disk, in MiB.
          type: float
          sample: 12.4
        ram_mib:
          description: The memory file, which is sparse, in MiB.
          type: float
          sample: 231.7
        state_mib:
          description: The device state, in MiB.
          type: float
          sample: 0.7
        image_mib:
          description: The image, in MiB. Other templates can share it.
          type: float
          sample: 489.2
    console_log:
      description:
        - The file on the hypervisor with the output of the template's kernel and services on the
          console.
      returned: on libvirt
      type: str
    esxi_host:
      description: The ESXi host of the machine.
      returned: on vSphere
      type: str
    cluster:
      description: The cluster of the machine.
      returned: on vSphere
      type: str
    folder:
      description: The folder of the machine in vCenter.
      returned: on vSphere
      type: str
    resource_pool:
      description: The resource pool of the hypervisor's URI. Empty for the cluster's own.
      returned: on vSphere
      type: str
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


def main() -> None:
    """Run the module."""
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module,
        lambda yard, params: {"templates": yard.templates.list(params["tenant"], params["name"])},
    )


if __name__ == "__main__":
    main()
