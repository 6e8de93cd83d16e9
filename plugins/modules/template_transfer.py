# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template_transfer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_transfer
short_description: Create a copy of a template in a registry, a file or a hypervisor
version_added: 0.1.0
description:
  - Transfers frozen templates between hypervisors, through a registry (as an OCI artifact) or a
    file. Hosts are forked at once from a template that was received.
  - An artifact contains the disk, the memory, the device state and the image of a template,
    compressed and without holes. It is signed with a key that follows from the tenant's certificate
    authority. Content that exists in the repository is not sent again.
  - An artifact is refused before anything is stored if it is not signed by a trusted key, or was
    frozen on another platform, such as another CPU model. If its content was changed or truncated,
    it is refused during the transfer, and no template remains.
  - The signature does not cover the tag. A digest in O(reference) names exactly one artifact.
  - A received template is a generation like others, and becomes the current one. If its declaration
    is that of M(stockyard.container_hosts.template), nothing is built.
  - Templates of vSphere cannot be transferred.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.tenant
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  operation:
    description:
      - V(push) sends a template to O(reference), and V(save) writes it to O(path).
      - V(pull) fetches a template from O(reference), and V(load) reads it from O(path).
    type: str
    required: true
    choices: [push, pull, save, load]
  name:
    description:
      - The template. With O(operation=pull) and O(operation=load) its name on this hypervisor, by
        default the name that it was pushed or saved with. Required when O(operation=push) and
        O(operation=save).
    type: str
  reference:
    description:
      - The artifact, such as V(registry.example.com/team/docker:stable). With O(operation=push) and
        without a tag, the first twelve digits of the generation are the tag.
      - C(http://) before the name of the registry omits TLS.
      - Required when O(operation=push) and O(operation=pull).
    type: str
  path:
    description:
      - The file, on the machine that the module runs on. A file that is not a saved template is not
        overwritten.
      - Required when O(operation=save) and O(operation=load).
    type: path
  generation:
    description: The first digits of the generation to transfer. The current one by default.
    type: str
    default: ""
  base:
    description:
      - An artifact of the same registry with similar content, such as that of the parent of a
        derived template. Its content is not sent again. By default other generations in the same
        repository.
    type: str
    default: ""
  trusted_keys:
    description:
      - The public keys of signers that are trusted in addition to that of the tenant. C(key) of
        RV(artifact) is the key of a signer.
    type: list
    elements: str
    default: []
  allow_boot:
    description:
      - Whether to accept a template whose memory cannot be resumed on this hypervisor, such as one
        of another CPU model. Hosts boot from its disk, and C(mode_reason) of a host says why. A
        build of the template freezes it again.
      - A template whose machine type or declared CPU model does not exist here is always refused.
    type: bool
    default: false
  registry_username:
    description: The user of the registry. Without a user, requests are anonymous.
    type: str
    default: ""
  registry_password:
    description: The password or the token of the user.
    type: str
    default: ""
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 3600
seealso:
  - module: stockyard.container_hosts.template
  - module: stockyard.container_hosts.template_info
"""

EXAMPLES = r"""
- name: Send the current generation to a registry
  stockyard.container_hosts.template_transfer:
    operation: push
    name: docker
    reference: registry.example.com/team/docker
    registry_username: robot
    registry_password: "{{ registry_token }}"

- name: Fetch it on another hypervisor
  stockyard.container_hosts.template_transfer:
    operation: pull
    reference: registry.example.com/team/docker:5f3c6a1d2b9e

- name: Write a template to a file, for a network without a registry
  stockyard.container_hosts.template_transfer:
    operation: save
    name: docker
    path: /srv/templates/docker.tar

- name: Read the template of another tenant, whose signer is trusted
  stockyard.container_hosts.template_transfer:
    operation: load
    path: /srv/templates/docker.tar
    trusted_keys: ["{{ key_of_the_build_tenant }}"]
"""

RETURN = r"""
artifact:
  description: The artifact that was pushed or saved. Null after a pull or a load.
  returned: success
  type: dict
  contains:
    location:
      description: The reference or the path.
      type: str
      sample: registry.example.com/team/docker:5f3c6a1d2b9e
    digest:
      description: The digest of the manifest. Empty if it does not exist yet.
      type: str
      sample: sha256:9f2c4a7be1d0356489ab6c1f2e3d4c5b6a7988776655443322110ffeeddccbba
    key:
      description: The public key of the signer.
      type: str
      sample: 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
    generation:
      description: The first twelve digits of the template's generation.
      type: str
      sample: 5f3c6a1d2b9e
    total_bytes:
      description: The size of the compressed content.
      type: int
      sample: 432013312
    sent_bytes:
      description: The size of the content that was transferred. The other content existed.
      type: int
      sample: 37748736
template:
  description:
    - The current generation of the template that was pulled or loaded. Null if it does not exist,
      and after a push or a save.
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
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["push template docker: registry.example.com/team/docker:5f3c6a1d2b9e does not exist"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["template docker (5f3c6a1d2b9e): 412 MiB compressed, of which 36 MiB were transferred"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: Unsupported
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: template docker (5f3c6a1d2b9e)
    cause:
      description: The cause. It can be empty.
      type: str
      sample: CPU model Skylake-Server was frozen, and the hypervisor has EPYC
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: build the template again on this hypervisor
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.model.login import RegistryLogin
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

TEXT = {"type": "str", "default": ""}
OPTIONS = {
    "tenant": {"type": "str", "default": "default"},
    "operation": {"type": "str", "choices": ["push", "pull", "save", "load"], "required": True},
    "name": {"type": "str"},
    "reference": {"type": "str"},
    "path": {"type": "path"},
    "generation": TEXT,
    "base": TEXT,
    "trusted_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "allow_boot": {"type": "bool", "default": False},
    "registry_username": TEXT,
    "registry_password": {**TEXT, "no_log": True},
    "timeout": {"type": "int", "default": 3600},
}
REQUIRED = [
    ("operation", "push", ("name", "reference")),
    ("operation", "pull", ("reference",)),
    ("operation", "save", ("name", "path")),
    ("operation", "load", ("path",)),
]
SENDING = ("push", "save")


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Transfer a template as the task declares."""
    templates, name, tenant = yard.templates, params["name"] or "", params["tenant"]
    login = RegistryLogin(params["registry_username"], params["registry_password"])
    receiving = {
        "name": name,
        "trusted_keys": tuple(params["trusted_keys"]),
        "allow_boot": params["allow_boot"],
    }
    generation = params["generation"]
    if params["operation"] == "push":
        return templates.push(
            name,
            params["reference"],
            tenant,
            generation=generation,
            base=params["base"],
            login=login,
            **mode,
        )
    if params["operation"] == "save":
        return templates.save(name, params["path"], tenant, generation=generation, **mode)
    if params["operation"] == "pull":
        return templates.pull(params["reference"], tenant, login=login, **receiving, **mode)
    return templates.load(params["path"], tenant, **receiving, **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS, required_if=REQUIRED)
    sends = module.params["operation"] in SENDING

    def show(objects: list[dict[str, Any]]) -> dict[str, Any]:
        latest = objects[-1] if objects else None
        return {"artifact": latest if sends else None, "template": None if sends else latest}

    run_change(module, change, show)


if __name__ == "__main__":
    main()
