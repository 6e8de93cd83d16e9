# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Manage a data volume that outlives container hosts
version_added: 0.1.0
description:
  - Creates, enlarges, copies, attaches, detaches or deletes one volume by its name. A volume is a
    sparse disk with its own file system, which is created when the volume is first attached to a
    host.
  - One host at a time uses a volume. If another host requests it, the module fails and the error
    names the host that uses it.
  - Only O(state=absent) of this module, M(stockyard.container_hosts.yard) with
    O(stockyard.container_hosts.yard#module:volumes=true), and a declaration with C(state=absent)
    delete a volume.
  - Declare a volume for C(/var/lib/docker) with its host or fleet, in the option O(ignore:volumes).
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
  name:
    description: The name of the volume. At most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) creates the volume, and enlarges it if it is smaller than declared.
      - V(absent) deletes the volume and its data. It fails while the volume is attached to a host.
        Copies of the volume stay intact.
      - V(attached) creates the volume if needed, attaches it to the running host O(host) and mounts
        it at O(path). The mount persists when the host reboots.
      - V(detached) unmounts the volume and detaches it from its host. It fails while a process in
        the host uses the volume, and for a volume that is part of the host's declaration.
    type: str
    choices: [present, absent, attached, detached]
    default: present
  size_gib:
    description:
      - The size of the volume in GiB, from 1 to 65536. A smaller volume is enlarged, also while it
        is attached. A volume is never reduced.
      - By default an existing volume keeps its size, a copy gets the size of its source, and
        another new volume gets 10 GiB.
    type: int
  source:
    description:
      - The volume or snapshot to copy when the volume is created. On libvirt a copy is immediate
        and shares its unchanged data with the source. It stays intact if the source is changed or
        deleted. On vSphere it is a full copy.
      - A volume can be copied only while it is attached to no host.
    type: str
    default: ""
  snapshot:
    description:
      - Whether the volume is a snapshot of O(source). A snapshot never changes and cannot be
        attached. It can be copied at any time. Requires O(source).
    type: bool
    default: false
  host:
    description:
      - The host to attach the volume to. Required when O(state=attached), and an error with other
        states.
    type: str
  path:
    description:
      - The path in the host at which the volume is mounted. Directories that the host itself needs
        are errors, and so is C(/var/lib/docker).
    type: str
    default: /data
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 120
seealso:
  - module: stockyard.container_hosts.volume_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: Create a volume
  stockyard.container_hosts.volume:
    name: results
    size_gib: 20

- name: Attach the volume to a running host
  stockyard.container_hosts.volume:
    name: results
    state: attached
    host: web-1
    path: /data/results

- name: Detach the volume
  stockyard.container_hosts.volume:
    name: results
    state: detached

- name: Create a snapshot of the volume
  stockyard.container_hosts.volume:
    name: results-monday
    source: results
    snapshot: true

- name: Delete the volume
  stockyard.container_hosts.volume:
    name: results
    state: absent
"""

RETURN = r"""
volume:
  description:
    - The volume after the run, or null if it does not exist.
      M(stockyard.container_hosts.volume_info) describes the keys.
  returned: success
  type: dict
  sample:
    name: results
    tenant: default
    size_gib: 20
    filesystem: ext4
    snapshot: false
    source: ""
    host: web-1
    path: /data/results
    mounted: true
    allocated: 73400320
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
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["attach volume results: it must be attached to host web-1"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["volume results: attached to host web-1 at /data/results"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: OperationRefused
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: volume results
    cause:
      description: The cause. It can be empty.
      type: str
      sample: the host uses it at /data/results
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: detach it from web-1, or delete that host; the volume is retained
"""

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils._volumes import change_volume
from ..module_utils.stockyard.declarations.volumes import VOLUME, VOLUME_STATES

OPTIONS = {
    **VOLUME,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(VOLUME_STATES), "default": "present"},
    "host": {"type": "str"},
    "path": {"type": "str", "default": "/data"},
}


def main() -> None:
    """Run the module."""
    run_change(
        mutating_module(OPTIONS, required_if=[("state", "attached", ["host"])]),
        change_volume,
        lambda volumes: {"volume": volumes[0] if volumes else None},
    )


if __name__ == "__main__":
    main()
