# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module lease_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lease_info
short_description: List leases of container hosts
version_added: 0.1.0
description:
  - Lists the leases of a yard, including expired leases whose hosts have not been deleted yet.
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
  holder:
    description: Return only leases of this holder.
    type: str
  fleet:
    description: Return only leases of hosts of this fleet.
    type: str
  tenant:
    description: Return only leases of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.lease
"""

EXAMPLES = r"""
- name: List the leases of a fleet
  stockyard.container_hosts.lease_info:
    fleet: ci
  register: ci_leases
"""

RETURN = r"""
leases:
  description: The leases, sorted by holder.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description:
        - The ID of the lease. With the ID a lease can be renewed and released. It gives no access
          to the host.
      type: str
      sample: 0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10
    holder:
      description: The holder of the lease.
      type: str
      sample: job-17
    taken:
      description: The time at which the lease began, in seconds since the epoch.
      type: float
      sample: 1798758000.0
    until:
      description: The time at which the lease ends, in seconds since the epoch.
      type: float
      sample: 1798761600.0
    ended:
      description: Whether the lease has expired. Its host will be deleted.
      type: bool
      sample: false
    certificate:
      description: The serial number of the client certificate of the lease, in hexadecimal digits.
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
      description: The tenant that the host belongs to.
      type: str
      sample: default
    address:
      description: The address of the host.
      type: str
      sample: 127.77.12.5
    docker:
      description:
        - The connection parameters for a Docker client, with a certificate that is valid for this
          host only.
      type: dict
      contains:
        endpoint:
          description: The URL of the Docker API.
          type: str
          sample: tcp://127.77.12.5:2376
        environment:
          description: The environment variables that a Docker client needs.
          type: dict
          sample:
            DOCKER_HOST: tcp://127.77.12.5:2376
            DOCKER_CERT_PATH: /home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-…
            DOCKER_TLS_VERIFY: "1"
        export:
          description: A line for a POSIX shell that sets these variables.
          type: str
          sample: >-
            export DOCKER_HOST=tcp://127.77.12.5:2376
            DOCKER_CERT_PATH=/home/me/.config/stockyard/stockyard/default/leases/0b0a4a86-9c3b-…
            DOCKER_TLS_VERIFY=1
        context:
          description: A command line that creates a context for Docker's own client.
          type: str
          sample: docker context create ci-1 --docker host=tcp://127.77.12.5:2376,ca=…,cert=…,key=…
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
        {"holder": {"type": "str"}, "fleet": {"type": "str"}, "tenant": {"type": "str"}}
    )
    run_query(
        module,
        lambda yard, params: {
            "leases": yard.leases.list(params["tenant"], params["fleet"], params["holder"])
        },
    )


if __name__ == "__main__":
    main()
