# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module volume_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_info
short_description: List data volumes and snapshots
version_added: 0.1.0
description:
  - Lists the volumes and snapshots of a yard.
  - If nothing matches, the list is empty and the module succeeds.
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
    description: Return only the volume with this name.
    type: str
  tenant:
    description: Return only volumes of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.volume
"""

EXAMPLES = r"""
- name: List all volumes
  stockyard.container_hosts.volume_info:
  register: all_volumes

- name: Show the volumes that are attached to no host
  ansible.builtin.debug:
    msg: "{{ all_volumes.volumes | selectattr('host', 'eq', '') | map(attribute='name') }}"
"""

RETURN = r"""
volumes:
  description: The volumes and snapshots, sorted by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The volume's name.
      type: str
      sample: results
    tenant:
      description: The tenant that the volume belongs to.
      type: str
      sample: default
    uuid:
      description:
        - The UUID of the volume. Its first 20 digits are the serial number of the disk in a host.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    size_gib:
      description: The virtual size of the volume, in GiB.
      type: int
      sample: 20
    allocated:
      description: The storage that the volume itself uses, in bytes.
      type: int
      sample: 73400320
    shared:
      description: The storage that the volume shares with its copies or its source, in bytes.
      type: int
      sample: 0
    disk:
      description: The path of the volume's disk. Empty for a snapshot, or if it is not known.
      type: str
      sample: /home/me/.local/share/stockyard/volumes/0b0a4a86-9c3b-…/disk.qcow2
    filesystem:
      description:
        - "The file system of the volume: V(ext4), empty before the volume is first attached, or
          V(making) if its creation was interrupted."
      type: str
      sample: ext4
    source:
      description: The volume or snapshot that it was copied from. Empty if it was created empty.
      type: str
      sample: ""
    snapshot:
      description: Whether the volume is a snapshot.
      type: bool
      sample: false
    encrypted:
      description:
        - Whether the volume is encrypted. The template of the first host that the volume is
          attached to decides this.
      type: bool
      sample: false
    host:
      description: The host that the volume is attached to. Empty if there is none.
      type: str
      sample: web-1
    path:
      description: The path in the host at which the volume is mounted.
      type: str
      sample: /data/results
    mounted:
      description: Whether the mount is complete.
      type: bool
      sample: true
    phase:
      description: "The phase of the volume's record: V(creating), V(ready) or V(deleting)."
      type: str
      sample: ready
    created:
      description: The time of creation, in seconds since the epoch.
      type: float
      sample: 1767225600.0
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
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module,
        lambda yard, params: {"volumes": yard.volumes.list(params["tenant"], params["name"])},
    )


if __name__ == "__main__":
    main()
