# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module endpoint_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_info
short_description: List Docker endpoints whose containers are virtual machines
version_added: 0.1.0
description:
  - Lists the endpoints of a yard with the machines of their containers.
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
    description: Return only the endpoint with this name.
    type: str
  tenant:
    description: Return only endpoints of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.endpoint
"""

EXAMPLES = r"""
- name: List all endpoints
  stockyard.container_hosts.endpoint_info:
  register: all_endpoints

- name: Show how Docker clients connect
  ansible.builtin.debug:
    msg: "{{ all_endpoints.endpoints | map(attribute='export') }}"
"""

RETURN = r"""
endpoints:
  description: The endpoints, sorted by tenant and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The endpoint's name.
      type: str
      sample: doors
    tenant:
      description: The tenant that the endpoint belongs to.
      type: str
      sample: default
    owner:
      description: The owner of the yard.
      type: str
      sample: stockyard
    image_host:
      description: The host that holds the images of the endpoint.
      type: str
      sample: images
    managed:
      description: Whether the image host was created for the endpoint, and is deleted with it.
      type: bool
      sample: true
    template:
      description: The template that the image host was forked from.
      type: str
      sample: docker
    state:
      description:
        - "The state of the image host: V(running), V(paused), V(suspended), V(off) or V(crashed).
          The endpoint can be served if it is V(running)."
      type: str
      sample: running
    socket:
      description: The path of the Unix socket. Empty if there is none.
      type: str
      sample: /home/me/doors.sock
    address:
      description: The address for mutual TLS. Empty if there is none.
      type: str
      sample: ""
    port:
      description: The port at that address.
      type: int
      sample: 2376
    spares:
      description: The number of machines that are forked before a container needs them.
      type: int
    socket_in_containers:
      description: Whether containers can bind C(/var/run/docker.sock), which leads to the endpoint.
      type: bool
      sample: false
    docker_hosts:
      description: The values of V(DOCKER_HOST) for Docker clients, that of the Unix socket first.
      type: list
      elements: str
      sample: [unix:///home/me/doors.sock]
    export:
      description: A line for a POSIX shell that connects Docker clients to the first of them.
      type: str
      sample: export DOCKER_HOST=unix:///home/me/doors.sock
    machines:
      description: The machines of containers, by name.
      type: list
      elements: dict
      contains:
        name:
          description: The name of the machine, which is a host of the yard.
          type: str
          sample: doors-5f3c6a1d2b9e
        container:
          description:
            - The name of the container that the machine was created for. Empty for a spare.
          type: str
          sample: web
        state:
          description:
            - "The state of the machine: V(running), V(paused), V(suspended), V(off) or V(crashed)."
          type: str
          sample: running
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
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module,
        lambda yard, params: {"endpoints": yard.endpoints.list(params["tenant"], params["name"])},
    )


if __name__ == "__main__":
    main()
