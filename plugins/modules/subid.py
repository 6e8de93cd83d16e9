# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module subid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: subid
short_description: Allot subordinate user and group IDs
version_added: 0.1.0
description:
  - Has a range of subordinate IDs for a user of the machine that it runs on, the same in C(/etc/subuid) and
    C(/etc/subgid), and over nobody else's. Containers of two tenants with ranges of their own are strangers to each
    other and to the host, whatever they run as.
  - A range that is there and fits stays where it is. Lines of others are never touched.
  - It takes the lock of the user database that C(useradd) takes too, so that two runs at once allot two ranges.
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
      - The user, such as C(dockremap) or the user of a rootless Docker. It need not exist yet.
    type: str
    required: true
  count:
    description:
      - How many IDs.
    type: int
    default: 65536
  first:
    description:
      - The first one. By default the lowest place from 100000 on that is free.
      - Files that belong to the IDs of an earlier range stay theirs.
    type: int
  state:
    description:
      - V(absent) gives the user's ranges back.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: stockyard.container_hosts.docker_config
"""

EXAMPLES = r"""
- name: Have a range for each tenant's rootless Docker
  stockyard.container_hosts.subid:
    user: "docker-{{ item }}"
  loop: [red, blue]

- name: Have the range that Docker remaps to
  stockyard.container_hosts.subid:
    user: dockremap
    first: 100000
"""

RETURN = r"""
first:
  description: The first ID of the range, or null when there is none.
  returned: success
  type: int
  sample: 100000
count:
  description: How many IDs are in it, or 0.
  returned: success
  type: int
  sample: 65536
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: user blue
    cause: containers of both could be each other's files and processes
    remedy: leave first out
"""

from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import here
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost import subids
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.machine import Machine

OPTIONS = {
    "user": {"type": "str", "required": True},
    "count": {"type": "int", "default": subids.COUNT},
    "first": {"type": "int"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Allot a range, or say which it would be."""
    wish = subids.Wish(params["user"], params["count"], params["first"], params["state"] == "present")
    outcome = subids.converge(Machine(), wish, check=check)
    diff = [
        {"before": outcome.before[name], "after": outcome.after[name], "before_header": name, "after_header": name}
        for name in subids.FILES
    ]
    found = outcome.range
    return {
        "changed": outcome.changed, "first": found.first if found else None, "count": found.count if found else 0,
        "diff": diff,
    }  # fmt: skip


def main() -> None:
    """Run the module."""
    here(OPTIONS, work)


if __name__ == "__main__":
    main()
