# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a template's virtual hardware."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  vcpus:
    description: The number of virtual CPUs of each host, from 1 to 255.
    type: int
    default: 1
  max_vcpus:
    description: The maximum number of virtual CPUs that a running host can get, from 1 to 255.
    type: int
    default: 4
  memory_mib:
    description: The memory of each host in MiB, at least 512.
    type: int
    default: 1024
  max_memory_mib:
    description:
      - The maximum memory in MiB that a running host can get. It cannot be smaller than
        O(memory_mib). V(0) means that the memory of running hosts cannot be increased.
    type: int
    default: 0
  spare_ports:
    description: The number of PCI Express ports that are reserved for hot-plug, at most 12.
    type: int
    default: 4
  accelerator:
    description:
      - V(auto) uses KVM if the CPU supports it, and software emulation otherwise.
      - V(kvm) is hardware virtualization.
      - V(tcg) is software emulation.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  cpu:
    description:
      - The processor of each host. With KVM, a host has the processor of the hypervisor by default,
        and its template cannot be resumed on another one.
      - On vSphere the cluster decides, and a model is an error.
    type: dict
    suboptions:
      model:
        description:
          - The CPU model, such as V(Skylake-Server-v4) or V(EPYC-v3), that every hypervisor of the
            template must have. C(virsh domcapabilities) lists the models of a hypervisor. A model
            that is not available is an error before anything is built.
        type: str
        default: ""
"""
