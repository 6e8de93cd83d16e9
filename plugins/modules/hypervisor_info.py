# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module hypervisor_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hypervisor_info
short_description: Look whether a yard can be made on a hypervisor
version_added: 0.1.0
description:
  - Opens a hypervisor and says what it offers, and what is in the way of a yard on it. Nothing is changed.
  - On vSphere it names every privilege that the user has not.
  - A hypervisor that cannot be reached, or a cluster that is not there, is an error.
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
seealso:
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Look at a cluster
  stockyard.container_hosts.hypervisor_info:
    hypervisor: vsphere://vcenter.example.org/Frankfurt/Build
    username: stockyard@vsphere.local
    password: "{{ vault_vcenter_password }}"
  register: found

- name: See that nothing is in the way
  ansible.builtin.assert:
    that: not found.problems
"""

RETURN = r"""
modes:
  description: The fork modes that it has, best first.
  returned: success
  type: list
  elements: str
  sample: [instant, linked, full]
parallel:
  description: How many hosts are made on it at once.
  returned: success
  type: int
  sample: 8
endpoints:
  description: Whether hosts on it answer on the network.
  returned: success
  type: bool
  sample: true
volumes:
  description: Whether it has volumes.
  returned: success
  type: bool
  sample: true
problems:
  description: What is in the way, each in a line. Empty when all is well.
  returned: success
  type: list
  elements: str
  sample: [privilege VirtualMachine.Provisioning.Clone is missing on the folder]
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    ask(asking({}), lambda yard, _params: yard.preflight())


if __name__ == "__main__":
    main()
