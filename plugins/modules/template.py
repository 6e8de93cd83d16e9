# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template
short_description: Build, boot and freeze a Docker host to fork others from
version_added: 0.1.0
description:
  - Has a template as declared. Where there is none, it builds a guest image from Debian packages, boots it, waits for
    Docker, warms it up and freezes it, memory and all.
  - A template never changes. When its declaration does, a new generation is built beside the old one. New hosts are
    forked from the newest, and the fleets that use it replace their hosts when they are next converged.
  - A declaration that is taken back makes its old generation rule again, if that is still there.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.packages
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.hardware
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.security
  - stockyard.container_hosts.firmware
  - stockyard.container_hosts.tenant
  - stockyard.container_hosts.warm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - The template's name, at most 63 lower-case letters, digits and hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) has a frozen template of this declaration.
      - V(absent) takes all generations of the template away. It fails when hosts live on one.
    type: str
    choices: [present, absent]
    default: present
  suite:
    description:
      - The Debian release of the guest, that of O(cloud_image) too.
      - The release decides which Docker the hosts have. V(trixie) (Debian 13) has Docker 26.1 with API 1.45, and
        V(bookworm) (Debian 12) has Docker 20.10 with API 1.41, which refuses newer clients that ask for API 1.44.
    type: str
    choices: [bookworm, trixie]
    default: trixie
  packages:
    description:
      - Debian packages to install, beside those that every host has.
    type: list
    elements: str
    default: []
  files:
    description:
      - Files to put into the guest, absolute path to text. They belong to root and all may read them.
      - Every host that is forked has them. Put no secrets here.
    type: dict
    default: {}
  disk_gib:
    description:
      - The size of the disk in GiB. Only what is written takes room.
    type: int
    default: 8
  source:
    description:
      - A virtual machine or template of vCenter's, by its name or its path, that is cloned instead of an image that is
        built. It has the agent in it already, so O(packages) and O(files) cannot be given with it.
      - C(library:LIBRARY/ITEM) names an item of a content library.
      - On vSphere it has to be given, elsewhere it cannot be.
    type: str
    default: ""
  ssh_user:
    description:
      - The user that is made in the guest, with password-less C(sudo) and the right to use Docker.
    type: str
    default: stockyard
  docker:
    description:
      - V(running) freezes the guest with Docker up. Hosts answer at once.
      - V(stopped) freezes it with Docker stopped. It starts in each host.
    type: str
    choices: [running, stopped]
    default: running
  upgrade:
    description:
      - Whether to ask the mirror what packages it has now, and to build a new generation when some are later than those
        in the template. The mirror is asked in every run, and in check mode too.
    type: bool
    default: false
  max_age:
    description:
      - The age at which a new generation is built from today's packages, whether these moved or not. A number of
        seconds, or a number with C(m), C(h), C(d) or C(w). At least a minute.
    type: str
  keep_generations:
    description:
      - How many generations stay, the newest among them. Older ones are removed when no host lives on them.
    type: int
    default: 2
  timeout:
    description:
      - Seconds for everything that the module does. When they are over it fails, and a template that is half-made is
        taken away again.
    type: int
    default: 1800
seealso:
  - module: stockyard.container_hosts.template_info
  - module: stockyard.container_hosts.fleet
"""

EXAMPLES = r"""
- name: Have a template
  stockyard.container_hosts.template:
    name: docker

- name: Have a larger one, with Git in it, built through a proxy
  stockyard.container_hosts.template:
    name: builder
    packages: [git, make]
    files:
      /etc/motd: |
        This host is cattle.
    vcpus: 2
    memory_mib: 4096
    disk_gib: 40
    proxy: http://proxy.example.com:3128

- name: Have one with packages of your own in it, and follow them
  stockyard.container_hosts.template:
    name: builder
    packages: [our-build-tools]
    repositories:
      - url: https://packages.example.com/debian
        signed_by: "{{ lookup('ansible.builtin.file', 'packages.asc') }}"
    upgrade: true

- name: Have it follow security updates, and never be older than a month
  stockyard.container_hosts.template:
    name: docker
    upgrade: true
    max_age: 30d

- name: Have one for tenants who are not trusted
  stockyard.container_hosts.template:
    name: public
    security:
      profile: hostile
      limits: {container_pids: 200}
      policy:
        images: ["registry.example.com/public/*"]

- name: Have one that a playbook of your own has prepared
  stockyard.container_hosts.template:
    name: builder
    packages: [git, make]
    provision:
      playbook: "{{ playbook_dir }}/builder/template.yml"
      variables: {workers: 4}

- name: Have one that begins with a cloud image
  stockyard.container_hosts.template:
    name: cloudy
    suite: trixie
    cloud_image:
      location: https://images.example.com/debian-13-genericcloud-amd64.qcow2
      checksum: "sha512:{{ cloud_image_sha512 }}"

- name: Take it away, with all its generations
  stockyard.container_hosts.template:
    name: builder
    state: absent
"""

RETURN = r"""
template:
  description: The generation that hosts are forked from, or null when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: The template's name.
      type: str
      sample: docker
    tenant:
      description: The tenant that it belongs to.
      type: str
      sample: default
    generation:
      description: The first twelve digits of the digest over image and hardware.
      type: str
      sample: 5f3c6a1d2b9e
    usable:
      description: Whether hosts can be forked from it.
      type: bool
      sample: true
    problem:
      description: Why it cannot be used, empty when it can.
      type: str
      sample: ""
    image:
      description: SHA-256 of the image, package versions included.
      type: str
      sample: 0d9e4c2f7b1a8e6354c1f0a9d8b7e6f5a4c3b2d1e0f9a8b7c6d5e4f3a2b1c0d9
    hardware:
      description: The machine that it was frozen with.
      type: dict
      sample: {vcpus: 1, max_vcpus: 4, memory_mib: 1024, spare_ports: 4, accelerator: auto}
    created:
      description: When it was made, in seconds since the epoch.
      type: float
      sample: 1767225600.0
    promoted:
      description: When it was made to rule again after later generations, in seconds since the epoch. 0 for never.
      type: float
      sample: 0.0
    provision:
      description: What was run in it before it was frozen. Empty for nothing.
      type: str
      sample: playbook template.yml
    source:
      description: Where its packages came from. Null where that is not known.
      type: dict
      sample:
        suite: bookworm
        packages: [docker.io, sudo]
        build: {mirror: "", security_mirror: "", proxy: "", repositories: []}
templates:
  description: All generations of the template, the one that hosts are forked from last. Each is like RV(template).
  returned: success
  type: list
  elements: dict
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["build template docker: there is none"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["template docker: freeze (71 s)", "template docker: frozen (74 s)"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: template docker (5f3c6a1d2b9e)
    cause: ""
    remedy: destroy the hosts first
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import TEMPLATE, template_spec

OPTIONS = {
    **TEMPLATE,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

ACTS = {
    "present": lambda yard, params, how: yard.template(template_spec(params), **how),
    "absent": lambda yard, params, how: yard.remove_template(params["name"], params["tenant"], **how),
}


def main() -> None:
    """Run the module."""
    module = changing(OPTIONS)
    act = ACTS[module.params["state"]]
    change(module, act, lambda found: {"template": found[-1] if found else None, "templates": found})


if __name__ == "__main__":
    main()
