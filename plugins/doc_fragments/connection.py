# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that name a yard."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  hypervisor:
    description:
      - The hypervisor's URI.
      - V(qemu:///session) is the libvirt of the user who runs the module and needs no privilege. V(qemu:///system) is
        the machine's.
      - V(vsphere://VCENTER/DATACENTER/CLUSTER) is a cluster of a vCenter. A port can follow the name of the vCenter,
        the path of a resource pool the cluster, and options a question mark, which the page on vSphere lists.
      - V(memory:///FILE) is a fake that keeps its state in a file, for tests of your own playbooks.
      - If it is not given, the value of the environment variable E(STOCKYARD_HYPERVISOR) is used.
    type: str
    default: qemu:///session
  owner:
    description:
      - Whose yard it is. Two owners on one hypervisor never touch each other's objects.
      - If it is not given, the value of the environment variable E(STOCKYARD_OWNER) is used.
    type: str
    default: stockyard
  storage:
    description:
      - The directory on the hypervisor that holds images, templates and hosts.
      - By default C(~/.local/share/stockyard) for V(qemu:///session) and C(/var/lib/stockyard) for V(qemu:///system).
      - On vSphere the name of a datastore. By default clones stay on the datastore of their source.
    type: path
  username:
    description:
      - The user that logs in to vCenter.
      - If it is not given, the value of the environment variable E(VMWARE_USER) is used.
    type: str
  password:
    description:
      - The password of O(username).
      - If it is not given, the value of the environment variable E(VMWARE_PASSWORD) is used.
    type: str
  validate_certs:
    description:
      - Whether vCenter has to prove who it is, on localhost too.
      - If it is not given, the value of the environment variable E(VMWARE_VALIDATE_CERTS) is used.
    type: bool
    default: true
  ca_path:
    description:
      - A file of PEM certificates, or a directory of them, of the authorities that are believed beside the system's.
      - If it is not given, the value of the environment variable E(VMWARE_CA_PATH) is used.
    type: path
requirements:
  - Python 3.11 or later
  - cryptography 42 or later
  - jinja2 3.1 or later
  - libvirt-python 9.0 or later, for V(qemu:///session) and V(qemu:///system)
  - pyvmomi 8.0.3 or later, for V(vsphere://VCENTER/DATACENTER/CLUSTER)
notes:
  - The module works on the libvirt of the machine that it runs on. Run the play on V(localhost), or on the hypervisor.
    A vCenter is reached from anywhere.
"""
