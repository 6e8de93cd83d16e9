# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module subid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: subid
short_description: Manage subordinate user and group IDs
version_added: 0.1.0
description:
  - Allocates a range of subordinate IDs to a user of the machine that it runs on. The range is the
    same in C(/etc/subuid) and C(/etc/subgid), and overlaps no range of another user. Containers of
    two tenants with separate ranges cannot access each other's files and processes.
  - An existing range of the right size stays. Lines of other users never change.
  - The module holds the lock of the user database, which C(useradd) also uses. Two runs at the same
    time therefore allocate two ranges.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - Python 3.11 or later on the machine
options:
  user:
    description:
      - The user, such as C(dockremap) or the user of a rootless Docker. The user does not need to
        exist yet.
    type: str
    required: true
  count:
    description: The number of IDs, at least 1.
    type: int
    default: 65536
  first:
    description:
      - The first ID of the range, at least 65536. By default the lowest free range from 100000 is
        used.
      - If another user's range overlaps, the module fails.
      - Files keep the IDs of an earlier range.
    type: int
  state:
    description:
      - V(present) allocates a range.
      - V(absent) removes all ranges of the user.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: stockyard.container_hosts.docker_config
"""

EXAMPLES = r"""
- name: Allocate a range for each tenant's rootless Docker
  stockyard.container_hosts.subid:
    user: "docker-{{ item }}"
  loop: [red, blue]

- name: Allocate the range for the user namespaces of Docker
  stockyard.container_hosts.subid:
    user: dockremap
    first: 100000
"""

RETURN = r"""
first:
  description: The first ID of the range, or null if there is none.
  returned: success
  type: int
  sample: 100000
count:
  description: The number of IDs in the range, or V(0) if there is none.
  returned: success
  type: int
  sample: 65536
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
      sample: user blue
    cause:
      description: The cause. It can be empty.
      type: str
      sample: containers of both users could access each other's files and processes
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: omit first
"""

from typing import Any

from ..module_utils._ansible import run_local
from ..module_utils.stockyard.hostconfig import (
    subids,
)
from ..module_utils.stockyard.hostconfig.machine import (
    Machine,
)

OPTIONS = {
    "user": {"type": "str", "required": True},
    "count": {"type": "int", "default": subids.COUNT},
    "first": {"type": "int"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Allocate a range, or return the range that would be allocated."""
    wish = subids.Wish(
        params["user"], params["count"], params["first"], params["state"] == "present"
    )
    outcome = subids.converge(Machine(), wish, check=check)
    diff = [
        {
            "before": outcome.before[name],
            "after": outcome.after[name],
            "before_header": name,
            "after_header": name,
        }
        for name in subids.FILES
    ]
    id_range = outcome.range
    return {
        "changed": outcome.changed,
        "first": id_range.first if id_range else None,
        "count": id_range.count if id_range else 0,
        "diff": diff,
    }


def main() -> None:
    """Run the module."""
    run_local(OPTIONS, work)


if __name__ == "__main__":
    main()
