# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: List fleets of container hosts
version_added: 0.1.0
description:
  - Lists the fleets of a yard with their hosts. Fleets without hosts are not listed.
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
    description: Return only the fleet with this name.
    type: str
  tenant:
    description: Return only fleets of this tenant.
    type: str
  check_updates:
    description:
      - Whether to compare the installed packages with the mirrors that the templates were built
        from. The comparison can take minutes.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: List one fleet
  stockyard.container_hosts.fleet_info:
    name: web
  register: web

- name: List hosts with outdated packages
  stockyard.container_hosts.fleet_info:
    check_updates: true
  register: fleets

- name: Check that all three hosts are ready
  ansible.builtin.assert:
    that: web.fleets[0].ready == 3
"""

RETURN = r"""
fleets:
  description: The fleets, sorted by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The fleet's name.
      type: str
      sample: web
    tenant:
      description: The tenant that the fleet belongs to.
      type: str
      sample: default
    template:
      description: The template that the newest host was forked from.
      type: str
      sample: docker
    generations:
      description:
        - The generations of that template that the hosts were forked from. More than one during a
          replacement.
      type: list
      elements: str
      sample: [5f3c6a1d2b9e]
    hosts:
      description: The names of the hosts.
      type: list
      elements: str
      sample: [web-1, web-2, web-3]
    ready:
      description: The number of hosts that have their identity and run with the right time.
      type: int
      sample: 3
    total:
      description: The number of hosts.
      type: int
      sample: 3
    leased:
      description: The number of leased hosts.
      type: int
      sample: 1
    outdated:
      description:
        - The names of the hosts that were forked from another generation than the current one.
      type: list
      elements: str
      sample: [web-3]
    missing_updates:
      description:
        - For each host, by name, the packages for which the mirror offers a later version. Empty if
          the host is up to date, null if that is not known. Null instead of all if it was not
          requested.
      returned: when O(check_updates=true)
      type: dict
      sample:
        web-1: []
        web-3: [{package: openssl, installed: 3.0.15-1~deb12u1, available: 3.0.16-1~deb12u1}]
    drift:
      description:
        - The hosts whose certificate must be renewed, or whose clock must be set, by name, each
          with the reasons. Empty if there are none.
      type: dict
      sample: {web-2: [its list of revoked certificates is outdated]}
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
    module = info_module(
        {
            "name": {"type": "str"},
            "tenant": {"type": "str"},
            "check_updates": {"type": "bool", "default": False},
        }
    )
    run_query(
        module,
        lambda yard, params: {
            "fleets": yard.fleets.list(
                params["tenant"], params["name"], check_updates=params["check_updates"]
            )
        },
    )


if __name__ == "__main__":
    main()
