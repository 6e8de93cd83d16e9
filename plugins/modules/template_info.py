# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module template_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_info
short_description: List templates of container hosts
version_added: 0.1.0
description:
  - Lists all generations of the templates of a yard, oldest first.
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
    description: Return only generations of the template with this name.
    type: str
  tenant:
    description: Return only templates of this tenant.
    type: str
seealso:
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: List all templates
  stockyard.container_hosts.template_info:
  register: all_templates

- name: Show the templates that cannot be used
  ansible.builtin.debug:
    msg: "{{ all_templates.templates | rejectattr('usable') | map(attribute='name') }}"
"""

RETURN = r"""
templates:
  description: The generations of the templates, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The template's name.
      type: str
      sample: docker
    tenant:
      description: The tenant that the template belongs to.
      type: str
      sample: default
    generation:
      description: The first twelve digits of the digest of image and hardware.
      type: str
      sample: 5f3c6a1d2b9e
    usable:
      description: Whether hosts can be forked from this generation.
      type: bool
      sample: true
    problem:
      description: The reason why the generation cannot be used. Empty if it can.
      type: str
      sample: ""
    image:
      description: The SHA-256 digest of the image, including its package versions.
      type: str
      sample: 0d9e4c2f7b1a8e6354c1f0a9d8b7e6f5a4c3b2d1e0f9a8b7c6d5e4f3a2b1c0d9
    hardware:
      description: The virtual hardware that was frozen.
      type: dict
      sample: {vcpus: 1, max_vcpus: 4, memory_mib: 1024, spare_ports: 4, accelerator: auto}
    provision:
      description: The playbook or roles that ran before the freeze. Empty if there were none.
      type: str
      sample: playbook template.yml
    sizes:
      description:
        - The disk space that the generation uses on the hypervisor, in MiB. The memory file is
          sparse. Other templates can share the image.
      returned: if stockyard stores the files of the template
      type: dict
      sample: {disk_mib: 12.4, ram_mib: 231.7, state_mib: 0.7, image_mib: 489.2}
    created:
      description: The time of creation, in seconds since the epoch.
      type: float
      sample: 1767225600.0
"""

from ..module_utils._ansible import info_module, run_query


def main() -> None:
    """Run the module."""
    module = info_module({"name": {"type": "str"}, "tenant": {"type": "str"}})
    run_query(
        module,
        lambda yard, params: {"templates": yard.templates.list(params["tenant"], params["name"])},
    )


if __name__ == "__main__":
    main()
