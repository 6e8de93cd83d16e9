# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options of templates that owners share."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  share_dir:
    description:
      - A directory on the machine of the module with templates that owners share. If a file of this
        declaration exists, and its signer is the tenant of this owner or one of O(trusted_keys),
        the template is loaded from it instead of being built. A template that is built is saved
        there for other owners.
      - Each owner gets a copy of the template. No owner can change the template of another one.
      - A file that is not signed by a trusted key, was changed, or was frozen on another platform
        is not used, and the template is built.
      - With O(upgrade=true) no file is used, because the packages at the mirror decide.
    type: path
    default: ""
  trusted_keys:
    description:
      - The public keys of other owners whose templates in O(share_dir) are loaded. C(key) of the
        result C(artifact) of M(stockyard.container_hosts.template_transfer) is the key of an owner.
      - Trust only owners with the right to run programs as the user of the hypervisor.
    type: list
    elements: str
    default: []
"""
