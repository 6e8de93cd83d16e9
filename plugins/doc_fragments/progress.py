# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that report progress."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  progress_file:
    description:
      - A file on the machine that the module runs on. One line is appended for every stage that
        ends.
      - It is needed only to watch a module that runs on another machine. On a local connection the
        lines are shown while the task runs. RV(progress) always contains them.
    type: path
"""
