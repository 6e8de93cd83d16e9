# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template
short_description: Manage a frozen template of a Docker host
version_added: 0.1.0
description:
  - Builds a template if it does not exist. The module builds a guest image from Debian packages,
    boots it, waits for Docker, runs the warm-up, and freezes the machine with its memory.
  - A template never changes. If its declaration changes, the module builds a new generation in
    addition to the old one. New hosts are forked from the newest generation, and fleets replace
    their hosts in their next run.
  - If you revert a declaration, its earlier generation becomes current again, provided that it
    still exists.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.packages
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.hardware
  - stockyard.container_hosts.origin
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.security
  - stockyard.container_hosts.sharing
  - stockyard.container_hosts.firmware
  - stockyard.container_hosts.tenant
  - stockyard.container_hosts.warm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The name of the template. At most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) builds a generation for this declaration if there is none.
      - V(absent) deletes all generations of the template. It fails if a host uses one of them.
    type: str
    choices: [present, absent]
    default: present
  suite:
    description:
      - The Debian release of the guest. A cloud image in O(cloud_image) must have the same release.
      - The release decides the version of Docker. V(trixie) (Debian 13) has Docker 26.1 with API
        1.45, and V(bookworm) (Debian 12) has Docker 20.10 with API 1.41, which refuses newer
        clients that request API 1.44.
    type: str
    choices: [bookworm, trixie]
    default: trixie
  packages:
    description: Debian packages to install in addition to the packages that every host needs.
    type: list
    elements: str
    default: []
  files:
    description:
      - Files to create in the guest, as a mapping of absolute paths to texts. They belong to root
        and are readable for all users.
      - Every host contains these files. Do not put secrets into them.
    type: dict
    default: {}
  disk_gib:
    description:
      - The virtual size of the disk in GiB, from 2 to 2048. The disk is sparse. Unused space is not
        allocated.
    type: int
    default: 8
  source:
    description:
      - The name or path of a virtual machine or template in vCenter to clone, instead of an image
        that is built. It must contain the agent already. It cannot be combined with O(packages),
        O(files), O(preload), O(commands), O(provision), O(security), O(runtime), O(docker_packages)
        and O(cloud_image).
      - C(library:LIBRARY/ITEM) selects an item of a content library.
      - Required on vSphere without O(from), and an error on other hypervisors.
    type: str
    default: ""
  ssh_user:
    description:
      - The user to create in the guest. It gets password-less C(sudo) and the right to use Docker.
        System users such as C(root) are errors.
    type: str
    default: stockyard
  docker:
    description:
      - V(running) freezes the guest with Docker running. Docker answers as soon as a host is
        forked.
      - V(stopped) freezes the guest with Docker stopped. Docker starts in each host.
    type: str
    choices: [running, stopped]
    default: running
  runtime:
    description:
      - The program with which Docker creates the processes of containers.
      - V(runc) is Docker's own choice. V(crun) is a smaller program in C. It starts containers and
        C(docker exec) faster, and uses less memory. Debian's package C(crun) is installed, and
        becomes the default runtime of Docker. A container can still ask for C(runc).
      - A C(default-runtime) in a declared C(/etc/docker/daemon.json) is not changed.
      - A derived template has the runtime of its parent.
    type: str
    choices: [runc, crun]
    default: runc
  upgrade:
    description:
      - Whether to compare the template with the packages on the mirror, and to build a new
        generation if the mirror has later versions. Every run contacts the mirror, also in check
        mode.
    type: bool
    default: false
  max_age:
    description:
      - The age at which a new generation is built, even if no package has changed. A number of
        seconds, or a number with C(s), C(m), C(h), C(d) or C(w). At least one minute and at most
        ten years.
    type: str
  keep_generations:
    description:
      - The number of generations to keep, including the current one. Older generations are deleted
        when no host uses them. From 1 to 1000.
    type: int
    default: 2
  timeout:
    description:
      - Seconds that the whole run of the module can take. After that time the module fails, and an
        incomplete template is deleted.
    type: int
    default: 1800
seealso:
  - module: stockyard.container_hosts.template_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Build a template
  stockyard.container_hosts.template:
    name: docker

- name: Build a larger template with Git, through a proxy
  stockyard.container_hosts.template:
    name: builder
    packages: [git, make]
    files:
      /etc/motd: |
        This host is disposable.
    vcpus: 2
    memory_mib: 4096
    disk_gib: 40
    proxy: http://proxy.example.com:3128

- name: Build a template with packages of your own repository, and follow their updates
  stockyard.container_hosts.template:
    name: builder
    packages: [example-build-tools]
    repositories:
      - url: https://packages.example.com/debian
        signed_by: "{{ lookup('ansible.builtin.file', 'packages.asc') }}"
    upgrade: true

- name: Follow security updates, and rebuild the template after 30 days at the latest
  stockyard.container_hosts.template:
    name: docker
    upgrade: true
    max_age: 30d

- name: Build a template for untrusted users
  stockyard.container_hosts.template:
    name: public
    security:
      profile: hostile
      limits: {container_pids: 200}
      policy:
        images: ["registry.example.com/public/*"]

- name: Build a template with your own playbook
  stockyard.container_hosts.template:
    name: builder
    packages: [git, make]
    provision:
      playbook: "{{ playbook_dir }}/builder/template.yml"
      variables: {workers: 4}

- name: Build a template from a cloud image
  stockyard.container_hosts.template:
    name: cloud
    suite: trixie
    cloud_image:
      location: https://images.example.com/debian-13-genericcloud-amd64.qcow2
      checksum: "sha512:{{ cloud_image_sha512 }}"

- name: Derive a template with a JDK from another template
  stockyard.container_hosts.template:
    name: jdk
    from: docker
    packages: [default-jdk-headless]

- name: Create a template from a host that was prepared by hand
  stockyard.container_hosts.template:
    name: warm
    from_host: web-1
    revision: after the import of 29 November

- name: Delete a template with all its generations
  stockyard.container_hosts.template:
    name: builder
    state: absent
"""

RETURN = r"""
template:
  description: The generation that hosts are forked from, or null if the template does not exist.
  returned: success
  type: dict
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
templates:
  description:
    - All generations of the template. The last one is the generation that hosts are forked from.
      Each item has the keys of RV(template).
  returned: success
  type: list
  elements: dict
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["build template docker: it does not exist"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["template docker: freeze (71 s)", "template docker: frozen (74 s)"]
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
      sample: template docker (5f3c6a1d2b9e)
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: delete the hosts first
"""

from dataclasses import replace
from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.specs import (
    TEMPLATE,
    template_spec,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **TEMPLATE,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Build or delete a template as the task declares. The result has all of its generations."""
    name, tenant = params["name"], params["tenant"]
    if params["state"] == "absent":
        return yard.templates.delete(name, tenant, **mode)
    result = yard.templates.apply(template_spec(params), **mode)
    return replace(result, objects=yard.templates.list(tenant, name))


def results(generations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of the module."""
    return {"template": generations[-1] if generations else None, "templates": generations}


def main() -> None:
    """Run the module."""
    run_change(mutating_module(OPTIONS), change, results)


if __name__ == "__main__":
    main()
