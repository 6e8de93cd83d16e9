# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module says it can do."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what it would change, without changing anything.
  diff_mode:
    description: Returns what changes, or would change in check mode, when diff mode is on.
  idempotent:
    description: When run twice in a row with the same arguments, the second run changes nothing.
  platform:
    description: Where it runs.
    platforms: linux
    support: full
"""
