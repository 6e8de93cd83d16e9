# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module hypervisor_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hypervisor_info
short_description: Return the capabilities and problems of a hypervisor
version_added: 0.1.0
description:
  - Connects to a hypervisor, and returns its capabilities and everything that prevents a yard on
    it. The module changes nothing.
  - On vSphere it lists every privilege that the user lacks.
  - A hypervisor that cannot be reached, or a cluster that does not exist, is an error.
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
- name: Check a cluster
  stockyard.container_hosts.hypervisor_info:
    hypervisor: vsphere://vcenter.example.org/Frankfurt/Build
    username: stockyard@vsphere.local
    password: "{{ vault_vcenter_password }}"
  register: cluster

- name: Check that there are no problems
  ansible.builtin.assert:
    that: not cluster.problems
"""

RETURN = r"""
modes:
  description: The fork modes that the hypervisor supports, best first.
  returned: success
  type: list
  elements: str
  sample: [instant, linked, full]
parallel:
  description: The number of hosts that are created at the same time.
  returned: success
  type: int
  sample: 8
endpoints:
  description: Whether hosts on the hypervisor have network endpoints.
  returned: success
  type: bool
  sample: true
volumes:
  description: Whether the hypervisor supports volumes.
  returned: success
  type: bool
  sample: true
problems:
  description: The problems that prevent a yard, one line each. Empty if there are none.
  returned: success
  type: list
  elements: str
  sample: [privilege VirtualMachine.Provisioning.Clone is missing on the folder]
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
    run_query(info_module({}), lambda yard, _params: yard.preflight().to_dict())


if __name__ == "__main__":
    main()
