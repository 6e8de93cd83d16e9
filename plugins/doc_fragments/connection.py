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
    type: path
requirements:
  - Python 3.11 or later
  - cryptography 42 or later
  - jinja2 3.1 or later
  - libvirt-python 9.0 or later, for V(qemu:///session) and V(qemu:///system)
notes:
  - The module works on the libvirt of the machine that it runs on. Run the play on V(localhost), or on the hypervisor.
"""
