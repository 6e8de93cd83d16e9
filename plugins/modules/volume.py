# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module volume."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Have, grow, copy, attach or delete a data disk that outlives hosts
version_added: 0.1.0
description:
  - Has one volume by its name. It is a sparse disk with a file system of its own, which is made once, when a host first
    has it.
  - One host at a time has a volume. Another one that asks is refused, and the error names the holder.
  - Nothing deletes a volume but O(state=absent) here, and what says so in M(stockyard.container_hosts.yard).
  - A volume for C(/var/lib/docker) is declared with a host or a fleet, in O(ignore:volumes) there.
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
    description:
      - The volume's name, at most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) has the volume, at least as large as declared.
      - V(absent) deletes it and all that is on it. That is refused while a host has it. Copies of it stay whole.
      - V(attached) has it, plugged into the running host O(host) and mounted at O(path). It is there again whenever the
        host boots.
      - V(detached) has it, unmounted and plugged into no host. That is refused while something in the host uses it, and
        for a volume that is part of the host's declaration.
    type: str
    choices: [present, absent, attached, detached]
    default: present
  size_gib:
    description:
      - Its size in GiB. A smaller one is grown, in the host that has it, too. None is ever shrunk.
      - By default an existing one is left as it is, a copy is made as large as its source, and any other with 10 GiB.
    type: int
  source:
    description:
      - A volume or snapshot that it is a copy of when it is made. The copy shares what it did not change with its
        source, takes no time, and stays whole when the source is changed or deleted. On vSphere nothing is shared.
      - A volume can be copied while no host has it.
    type: str
    default: ''
  snapshot:
    description:
      - Whether it is a snapshot of O(source), which is never changed and never attached. Copies are made of it at any
        time.
    type: bool
    default: false
  host:
    description:
      - The host that has it. Required when O(state=attached), and refused otherwise.
    type: str
  path:
    description:
      - Where it is mounted in the host. Directories that the host itself lives on are refused.
    type: str
    default: /data
  timeout:
    description:
      - Seconds for everything.
    type: int
    default: 120
seealso:
  - module: stockyard.container_hosts.volume_info
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host
"""

EXAMPLES = r"""
- name: Have a volume
  stockyard.container_hosts.volume:
    name: results
    size_gib: 20

- name: Let a running host have it
  stockyard.container_hosts.volume:
    name: results
    state: attached
    host: web-1
    path: /data/results

- name: Take it out again
  stockyard.container_hosts.volume:
    name: results
    state: detached

- name: Keep what is on it now
  stockyard.container_hosts.volume:
    name: results-monday
    source: results
    snapshot: true

- name: Delete it
  stockyard.container_hosts.volume:
    name: results
    state: absent
"""

RETURN = r"""
volume:
  description: The volume as it is now, or null when there is none. M(stockyard.container_hosts.volume_info) says more.
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
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["attach volume results: web-1 is to have it"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["volume results: mounted at /data/results in host web-1"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: volume results
    cause: it is for /data/results there
    remedy: detach it from web-1, or destroy that host; the volume stays
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._volumes import (
    VOLUME,
    VOLUME_STATES,
    volume_spec,
)

OPTIONS = {
    **VOLUME,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": list(VOLUME_STATES), "default": "present"},
    "host": {"type": "str"},
    "path": {"type": "str", "default": "/data"},
}


def main() -> None:
    """Run the module."""
    change(
        changing(OPTIONS, required_if=[("state", "attached", ["host"])]),
        lambda yard, params, how: yard.volume(
            volume_spec(params), params["state"], host=params["host"] or "", path=params["path"], **how
        ),
        lambda found: {"volume": found[0] if found else None},
    )


if __name__ == "__main__":
    main()
