# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_info
short_description: List templates
version_added: 0.1.0
description:
  - Lists the templates of a yard, all generations, oldest first.
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
      - Only generations of the template of this name.
    type: str
  tenant:
    description:
      - Only templates of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Look at all templates
  stockyard.container_hosts.template_info:
  register: found

- name: Name those that cannot be used
  ansible.builtin.debug:
    msg: "{{ found.templates | rejectattr('usable') | map(attribute='name') }}"
"""

RETURN = r"""
templates:
  description: The templates that were found.
  returned: success
  type: list
  elements: dict
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
    provision:
      description: What was run in it before it was frozen. Empty for nothing.
      type: str
      sample: playbook template.yml
    sizes:
      description:
        - MiB that it takes of the disk of the hypervisor. The RAM file is sparse. Other templates may share the image.
      returned: where its files are kept by this collection
      type: dict
      sample: {disk_mib: 12.4, ram_mib: 231.7, state_mib: 0.7, image_mib: 489.2}
    created:
      description: When it was made, in seconds since the epoch.
      type: float
      sample: 1767225600.0
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking


def main() -> None:
    """Run the module."""
    module = asking({"name": {"type": "str"}, "tenant": {"type": "str"}})
    ask(module, lambda yard, params: {"templates": yard.templates(params["tenant"], params["name"])})


if __name__ == "__main__":
    main()
