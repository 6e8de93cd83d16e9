# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module reap."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reap
short_description: Take away what is over, half-made or left behind
version_added: 0.1.0
description:
  - Destroys hosts whose lease or time to live is over, hosts and templates that were left half-made or half-destroyed,
    and removes files, locks and keys that no living object refers to.
  - Only what is proven to belong to the owner on this hypervisor is touched. What cannot be read, what belongs to
    somebody else and what another run is at work on is left alone and listed in RV(left).
  - It needs no declaration, and makes nothing. The next run of M(stockyard.container_hosts.fleet) makes hosts for those
    that went.
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
      - How long a host or template may take to be made before it counts as left behind, and how long ago a file must
        have been changed last, as in V(30m) or V(2h).
      - What ended, by its lease or its time to live, goes at once.
    type: str
    default: 1h
  timeout:
    description:
      - Seconds for everything that the module does.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.lease
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.yard
"""

EXAMPLES = r"""
- name: Take away what is over
  stockyard.container_hosts.reap:

- name: See what would go, and what is left alone
  stockyard.container_hosts.reap:
    grace: 15m
  check_mode: true
  register: found
"""

RETURN = r"""
left:
  description: What looks like something that might go and was left alone.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What it is, one of V(machine), V(host), V(template), V(volume), V(fleet) and V(file).
      type: str
      sample: machine
    name:
      description: Its name, or its path.
      type: str
      sample: stockyard.default.web-9
    reason:
      description: Why it was left alone.
      type: str
      sample: it has a name like ours, and nothing in it says that it is ours
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["destroy host ci-1: its lease by job-17 ended"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host ci-1: destroyed"]
error:
  description: What went wrong, in parts. Everything that could be taken away was.
  returned: failure
  type: dict
  sample:
    kind: HypervisorError
    object: host ci-1
    cause: ""
    remedy: run again
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import reaping

OPTIONS = {
    "grace": {"type": "str", "default": "1h"},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    """Run the module."""
    change(changing(OPTIONS), reaping, lambda found: {"left": found})


if __name__ == "__main__":
    main()
