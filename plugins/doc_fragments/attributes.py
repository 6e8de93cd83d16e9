# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes of all modules."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what it would change, without a change.
  diff_mode:
    description: Returns the differences between the states before and after, if diff mode is on.
  idempotent:
    description:
      - If the module runs twice in a row with the same arguments, the second run changes nothing.
  platform:
    description: The operating system of the machine that the module runs on.
    platforms: linux
    support: full
"""
