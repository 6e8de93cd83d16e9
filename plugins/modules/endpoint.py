# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module endpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint
short_description: Manage a Docker endpoint whose containers are virtual machines
version_added: 0.1.0
description:
  - Creates, changes or deletes an endpoint. An endpoint is a server of the Docker API. Each
    container that a Docker client creates there runs in a virtual machine of its own, which is
    forked from the image host of the endpoint.
  - The module creates the image host and records the endpoint. The command C(stockyard endpoint
    serve --name NAME) serves it, and the role P(stockyard.container_hosts.endpoint#role) runs that
    command as a service of the user.
  - The image host holds the images of the endpoint. It is not replaced when its template gets
    another generation. A change that could only be made by a replacement is an error, unless
    O(replace=true).
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
    description: The name of the endpoint. At most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) creates or changes the endpoint.
      - V(absent) deletes the endpoint with the machines of all its containers, and with its image
        host if the module created it. End the service of the endpoint first.
    type: str
    choices: [present, absent]
    default: present
  image_host:
    description:
      - The host that holds the images. It cannot be the member of a fleet, and each endpoint has
        another one. The image host of an endpoint cannot be changed.
    type: str
    default: images
  template:
    description:
      - The template that the image host is forked from. The image host is then created, corrected
        and deleted together with the endpoint.
      - Without a template the host O(image_host) must exist. It stays when the endpoint is deleted,
        and O(egress), O(egress_proxy), O(network), O(pool), O(vcpus) and O(memory_mib) have no
        effect.
    type: str
    default: ""
  socket:
    description:
      - The path of a Unix socket, on the machine that serves the endpoint. Only the user who serves
        the endpoint can open it.
      - O(socket) or O(address) is required, and both are possible.
    type: path
    default: ""
  address:
    description:
      - The IPv4 address at which the endpoint is served over mutual TLS, with the authority of the
        tenant. Ports of containers are published at this address, too. Without it they are
        published at 127.0.0.1.
    type: str
    default: ""
  port:
    description: The port at O(address).
    type: int
    default: 2376
  spares:
    description:
      - The number of machines that are forked before a container needs them, so that C(docker run)
        does not wait for a fork. Spares count in the pool, and use memory while they wait. If the
        pool has no room for another container, they are deleted.
    type: int
    default: 0
  socket_in_containers:
    description:
      - Whether containers can bind C(/var/run/docker.sock), which then leads to the endpoint. Some
        tools require it, such as act and testcontainers.
      - A container with the socket has the rights of a client of the endpoint, with access to all
        of its containers. The option requires an image host in the profile V(trusted), without
        C(authorized_keys).
      - A change has effect when the service of the endpoint is restarted.
    type: bool
    default: false
  egress:
    description:
      - The destinations that the image host and the machines of containers can reach, as with
        M(stockyard.container_hosts.host). C(docker pull) requires a path to the registry.
    type: str
    choices: [none, proxy, open, allow]
    default: none
  egress_proxy:
    description: The proxy for O(egress=proxy), as C(host:port).
    type: str
    default: ""
  egress_allow:
    description:
      - The destinations of O(egress=allow), or those in private ranges that O(egress=open) reaches
        in addition, as with M(stockyard.container_hosts.host).
    type: list
    elements: str
    default: []
  network:
    description:
      - The libvirt network, or on vSphere the port group, of the image host and of the machines of
        containers.
    type: str
    default: ""
  pool:
    description:
      - The pool of the image host and of the machines of containers, in the same tenant. Its quota
        limits the number of containers. See M(stockyard.container_hosts.pool).
    type: str
    default: ""
  vcpus:
    description:
      - The number of virtual CPUs of the image host and of each machine. V(0) uses the number of
        the template.
    type: int
    default: 0
  memory_mib:
    description:
      - The memory of the image host and of each machine in MiB. V(0) uses the memory of the
        template.
    type: int
    default: 0
  replace:
    description:
      - Whether the image host is replaced if it was forked from another generation than the current
        one, or if its declaration changed. Its images are then lost. Existing containers stay.
    type: bool
    default: false
  timeout:
    description: Seconds that the whole run of the module can take.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.endpoint_info
  - module: stockyard.container_hosts.host
  - module: stockyard.container_hosts.pool
"""

EXAMPLES = r"""
- name: Create an endpoint with its image host
  stockyard.container_hosts.endpoint:
    name: doors
    template: docker
    socket: ~/doors.sock
  register: created

- name: Show how Docker clients connect
  ansible.builtin.debug:
    msg: "{{ created.endpoint.export }}"

- name: Serve an existing host's images on the local network
  stockyard.container_hosts.endpoint:
    name: ci
    image_host: ci-images
    address: 192.0.2.7

- name: Delete an endpoint with all its containers
  stockyard.container_hosts.endpoint:
    name: doors
    state: absent
"""

RETURN = r"""
endpoint:
  description: The endpoint after the run. Empty if there is none.
  returned: success
  type: dict
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
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["create host images: it does not exist", "create endpoint doors: it does not exist"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["endpoint doors: created"]
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
      sample: host images
    cause:
      description: The cause. It can be empty.
      type: str
      sample: its template is docker
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: set replace, or undo the change of the declaration
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.specs import (
    ENDPOINT,
    endpoint_spec,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **ENDPOINT,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Converge or delete an endpoint as the task declares."""
    if params["state"] == "absent":
        return yard.endpoints.delete(params["name"], params["tenant"], **mode)
    return yard.endpoints.apply(endpoint_spec(params), replace=params["replace"], **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS)
    run_change(module, change, lambda endpoints: {"endpoint": endpoints[0] if endpoints else {}})


if __name__ == "__main__":
    main()
