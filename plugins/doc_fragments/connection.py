# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that select a yard."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  hypervisor:
    description:
      - The URI of the hypervisor.
      - V(qemu:///session) is the libvirt of the user who runs the module and needs no privileges.
        V(qemu:///system) is the libvirt of the machine.
      - V(vsphere://VCENTER/DATACENTER/CLUSTER) is a cluster of a vCenter. The name of the vCenter
        can be followed by a port, and the name of the cluster by the path of a resource pool.
        Options can follow a question mark; the vSphere page of the documentation lists them.
      - V(memory:///FILE) is a simulated hypervisor that keeps its state in a file, for tests of
        your own playbooks.
      - If it is not set, the value of the environment variable E(STOCKYARD_HYPERVISOR) is used.
    type: str
    default: qemu:///session
  owner:
    description:
      - The owner of the yard. Two owners on one hypervisor never change each other's objects.
      - If it is not set, the value of the environment variable E(STOCKYARD_OWNER) is used.
    type: str
    default: stockyard
  storage:
    description:
      - The directory on the hypervisor that contains images, templates, hosts and volumes.
      - By default C(~/.local/share/stockyard) for V(qemu:///session) and C(/var/lib/stockyard) for
        V(qemu:///system).
      - On vSphere the name of a datastore. By default clones stay on the datastore of their source.
    type: path
  username:
    description:
      - The user for the login to vCenter.
      - If it is not set, the value of the environment variable E(VMWARE_USER) is used.
    type: str
  password:
    description:
      - The password of O(username).
      - If it is not set, the value of the environment variable E(VMWARE_PASSWORD) is used.
    type: str
  validate_certs:
    description:
      - Whether to validate the certificate of vCenter, also on localhost.
      - If it is not set, the value of the environment variable E(VMWARE_VALIDATE_CERTS) is used.
    type: bool
    default: true
  ca_path:
    description:
      - A file with PEM certificates, or a directory of such files, of authorities to trust in
        addition to the system's.
      - If it is not set, the value of the environment variable E(VMWARE_CA_PATH) is used.
    type: path
requirements:
  - Python 3.11 or later
  - cryptography 42 or later
  - jinja2 3.1 or later
  - libvirt-python 9.0 or later, for V(qemu:///session) and V(qemu:///system)
  - pyvmomi 8.0.3 or later, for V(vsphere://VCENTER/DATACENTER/CLUSTER)
notes:
  - The module uses the libvirt of the machine that it runs on. Run the play on V(localhost), or on
    the hypervisor. A vCenter can be reached from any machine.
"""
