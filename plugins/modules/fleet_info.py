# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module fleet_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_info
short_description: List fleets
version_added: 0.1.0
description:
  - Lists the fleets of a yard. A fleet is known by its hosts, so one that has none is not listed.
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
      - Only the fleet of this name.
    type: str
  tenant:
    description:
      - Only fleets of this tenant.
    type: str
  behind:
    description:
      - Whether to ask the mirrors that the templates were built from what later packages there are. That takes a while.
    type: bool
    default: false
seealso:
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Look at one fleet
  stockyard.container_hosts.fleet_info:
    name: web
  register: found

- name: Find hosts that lack an update
  stockyard.container_hosts.fleet_info:
    behind: true
  register: lacking

- name: See that all its hosts are there
  ansible.builtin.assert:
    that: found.fleets[0].ready == 3
"""

RETURN = r"""
fleets:
  description: The fleets that were found, by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The fleet's name.
      type: str
      sample: web
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    template:
      description: The template that its newest host was forked from.
      type: str
      sample: docker
    generations:
      description: The generations of that template that its hosts have, more than one while they are being replaced.
      type: list
      elements: str
      sample: [5f3c6a1d2b9e]
    hosts:
      description: The names of its hosts.
      type: list
      elements: str
      sample: [web-1, web-2, web-3]
    ready:
      description: How many of its hosts are complete and running.
      type: int
      sample: 3
    total:
      description: How many hosts it has.
      type: int
      sample: 3
    leased:
      description: How many of its hosts somebody has leased.
      type: int
      sample: 1
    outdated:
      description: The hosts that are not of the generation which new hosts are forked from.
      type: list
      elements: str
      sample: [web-3]
    behind:
      description:
        - What each host lacks that the mirror has by now, by the host's name. Empty for a host that is up to date, null
          where it is not known.
      returned: when O(behind=true)
      type: dict
      sample:
        web-1: []
        web-3: [{package: openssl, installed: 3.0.15-1~deb12u1, available: 3.0.16-1~deb12u1}]
    drift:
      description: The hosts that have to be admitted anew, by name, each with the reasons. Empty when nothing is due.
      type: dict
      sample: {web-2: [its list of revoked certificates is behind]}
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    module = asking({"name": {"type": "str"}, "tenant": {"type": "str"}, "behind": {"type": "bool", "default": False}})
    ask(
        module,
        lambda yard, params: {"fleets": yard.fleets(params["tenant"], params["name"], behind=params["behind"])},
    )


if __name__ == "__main__":
    main()
