# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options to watch long work."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  progress_file:
    description:
      - A file, where the module runs, that a line is appended to for every stage that ends.
      - It is needed only to watch a module from elsewhere. On a local connection the lines are shown while the task
        runs, and RV(progress) has them in any case.
    type: path
"""
