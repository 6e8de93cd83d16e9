# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module lease_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease_info
short_description: List leases
version_added: 0.1.0
description:
  - Lists the leases of a yard, those that ended and whose hosts are still there too.
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
  holder:
    description:
      - Only leases of this holder.
    type: str
  fleet:
    description:
      - Only leases of hosts of this fleet.
    type: str
  tenant:
    description:
      - Only leases of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.lease
"""

EXAMPLES = r"""
- name: See who has hosts of a fleet
  stockyard.container_hosts.lease_info:
    fleet: ci
  register: found
"""

RETURN = r"""
leases:
  description: The leases that were found, by holder.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its number. It asks for more time and gives the host back; it opens nothing.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    holder:
      description: Whose it is.
      type: str
      sample: job-17
    taken:
      description: When it began, in seconds since the epoch.
      type: float
      sample: 1798758000.0
    until:
      description: When it ends, in seconds since the epoch.
      type: float
      sample: 1798761600.0
    ended:
      description: Whether it is over. Its host is about to be taken away then.
      type: bool
      sample: false
    certificate:
      description: The serial number of its client certificate, in hex.
      type: str
      sample: 3f8a11c09be2
    host:
      description: The name of the host.
      type: str
      sample: ci-1
    fleet:
      description: The fleet that the host belongs to.
      type: str
      sample: ci
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    address:
      description: The address of the host.
      type: str
      sample: 127.77.12.5
    docker:
      description: How a Docker client gets at the host, with a certificate that opens this host and no other.
      type: dict
      sample:
        endpoint: tcp://127.77.12.5:2376
        environment:
          DOCKER_HOST: tcp://127.77.12.5:2376
          DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
          DOCKER_TLS_VERIFY: "1"
        export: >-
          export DOCKER_HOST=tcp://127.77.12.5:2376
          DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
          DOCKER_TLS_VERIFY=1
        context: >-
          docker context create ci-1 --docker host=tcp://127.77.12.5:2376,ca=…,cert=…,key=…
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    module = asking({"holder": {"type": "str"}, "fleet": {"type": "str"}, "tenant": {"type": "str"}})
    ask(module, lambda yard, params: {"leases": yard.leases(params["tenant"], params["fleet"], params["holder"])})


if __name__ == "__main__":
    main()
