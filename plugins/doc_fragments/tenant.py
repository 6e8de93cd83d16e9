# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option tenant."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  tenant:
    description:
      - The trust domain in the yard that the object belongs to. Each tenant has its own certificate
        authority.
    type: str
    default: default
"""
