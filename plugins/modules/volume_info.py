# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module volume_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_info
short_description: List volumes
version_added: 0.1.0
description:
  - Lists the volumes and snapshots of a yard, by tenant and name.
  - What does not exist is not an error. The list is empty then.
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
    description:
      - Only the volume of this name.
    type: str
  tenant:
    description:
      - Only volumes of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.volume
"""

EXAMPLES = r"""
- name: Look at all volumes
  stockyard.container_hosts.volume_info:
  register: found

- name: Name those that no host has
  ansible.builtin.debug:
    msg: "{{ found.volumes | selectattr('host', 'eq', '') | map(attribute='name') }}"
"""

RETURN = r"""
volumes:
  description: The volumes that were found.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The volume's name.
      type: str
      sample: results
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    size_gib:
      description: How large it is to its host, in GiB.
      type: int
      sample: 20
    allocated:
      description: What it takes of the storage for itself, in bytes.
      type: int
      sample: 73400320
    shared:
      description: What it lives on together with its copies or its source, in bytes. Not on every hypervisor.
      type: int
      sample: 0
    disk:
      description: Its disk. Empty for a snapshot.
      type: str
      sample: /home/me/.local/share/stockyard/volumes/0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10/disk.qcow2
    filesystem:
      description: V(ext4), or empty before a host had it. V(making) where making it was cut short.
      type: str
      sample: ext4
    source:
      description: What it was copied from. Empty when it was made empty.
      type: str
      sample: ""
    snapshot:
      description: Whether it is a snapshot.
      type: bool
      sample: false
    encrypted:
      description: Whether it is encrypted. A volume is from its first host on, where the template of that says so.
      type: bool
      sample: false
    host:
      description: The host that has it. Empty when nobody does.
      type: str
      sample: web-1
    path:
      description: Where it is mounted there.
      type: str
      sample: /data/results
    mounted:
      description: Whether that was done to the end.
      type: bool
      sample: true
    phase:
      description: One of V(creating), V(ready) and V(deleting).
      type: str
      sample: ready
    uuid:
      description: Its uuid. Its first 20 digits are the serial number of its disk in a host.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    created:
      description: When it was made, in seconds since the epoch.
      type: float
      sample: 1767225600.0
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    module = asking({"name": {"type": "str"}, "tenant": {"type": "str"}})
    ask(module, lambda yard, params: {"volumes": yard.volumes(params["tenant"], params["name"])})


if __name__ == "__main__":
    main()
