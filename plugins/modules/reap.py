# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module reap."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reap
short_description: Run a clean-up of expired and orphaned container hosts
version_added: 0.1.0
description:
  - Deletes hosts whose lease or lifetime has expired, and hosts and templates whose creation or
    deletion was interrupted. Deletes files, locks and keys that no existing object refers to.
  - Only objects with the owner's marker on this hypervisor are deleted. Unreadable objects, objects
    of other owners and objects that another run is changing are skipped and listed in
    RV(skipped_objects).
  - It needs no declaration and creates nothing. The next run of M(stockyard.container_hosts.fleet)
    replaces the deleted hosts.
  - If an object cannot be deleted, the module deletes the other objects and then fails.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  grace:
    description:
      - The time that the creation of a host or template can take before it counts as interrupted,
        and the minimum age of a file before it counts as orphaned. As in V(30m) or V(2h).
      - Expired hosts are deleted without this delay.
    type: str
    default: 1h
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.lease
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.yard
"""

EXAMPLES = r"""
- name: Delete expired and orphaned objects
  stockyard.container_hosts.reap:

- name: Show the objects that would be deleted, and the skipped objects
  stockyard.container_hosts.reap:
    grace: 15m
  check_mode: true
  register: reaped
"""

RETURN = r"""
skipped_objects:
  description: The objects that might be expired or orphaned, but were skipped.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - "The kind of the object: V(machine), V(host), V(template), V(volume), V(fleet), V(node) or
          V(file)."
      type: str
      sample: machine
    name:
      description: The name of the object, or the path of a file.
      type: str
      sample: stockyard.default.web-9
    reason:
      description: The reason why it is skipped.
      type: str
      sample: its name matches this owner, but the machine has no metadata of stockyard
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["delete host ci-1: its lease by job-17 expired"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host ci-1: deleted"]
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
      sample: host ci-1
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: run again
"""

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils._reaping import reap

OPTIONS = {
    "grace": {"type": "str", "default": "1h"},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    run_change(mutating_module(OPTIONS), reap, lambda objects: {"skipped_objects": objects})


if __name__ == "__main__":
    main()
