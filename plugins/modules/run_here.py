# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module run_here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_here
short_description: Run another module of this collection on the controller
version_added: 0.1.0
description:
  - Action plugins of this collection use this module. It cannot be used in a play.
  - Ansible packs a module and all its imports for each task, and Python compiles them again. On the
    controller this module runs the other module from the collection's own directory, where Python
    caches the compiled files. That saves about a second for each task.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
attributes:
  check_mode:
    support: full
    details: Depends on the module that is run.
  diff_mode:
    support: full
    details: Depends on the module that is run.
  idempotent:
    support: full
    details: Depends on the module that is run.
options: {}
"""

EXAMPLES = r"""
- name: Create a fleet, whose action plugin uses this module
  stockyard.container_hosts.fleet:
    name: web
    template: docker
"""

RETURN = r""" # """

import os
import runpy
import sys

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# Ansible packs these imports with this module, for the modules that it runs.
PACKED = (AnsibleModule, ArgumentSpecValidator, env_fallback, missing_required_lib)
PLUGINS = "ansible_collections.stockyard.container_hosts.plugins"


def main() -> None:
    """Run the module that the environment names, in this process and with the same arguments."""
    name, folder = (os.environ.pop(f"STOCKYARD_RUN_{part}", "") for part in ("MODULE", "PLUGINS"))
    if not (name.isidentifier() and os.path.isabs(folder)):
        AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(
            msg="It is for the action plugins of this collection, and not for plays."
        )
    sys.modules[PLUGINS].__path__ = [folder]
    sys.modules[f"{PLUGINS}.modules"].__path__ = [os.path.join(folder, "modules")]
    runpy.run_module(f"{PLUGINS}.modules.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
