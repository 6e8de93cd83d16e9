# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the machine that a template is frozen with."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  vcpus:
    description:
      - Virtual CPUs of each host.
    type: int
    default: 1
  max_vcpus:
    description:
      - How many virtual CPUs a host can be given later.
    type: int
    default: 4
  memory_mib:
    description:
      - Memory of each host in MiB.
    type: int
    default: 1024
  max_memory_mib:
    description:
      - How much memory in MiB a host can be given while it runs. None more than O(memory_mib) when it is V(0).
    type: int
    default: 0
  spare_ports:
    description:
      - PCI Express ports that are left free for hot-plug, at most 12.
    type: int
    default: 4
  accelerator:
    description:
      - V(auto) takes KVM where the CPU has it, and software emulation elsewhere.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
"""
