# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that say how long to wait."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until Docker answers over mutual TLS in every host that was made or started.
      - With V(false) the module returns when each has its identity and its network. Docker usually answers a second
        later, and the module does not find out if it never does.
    type: bool
    default: true
  timeout:
    description:
      - Seconds for everything that the module does. When they are over it fails, and a host that is half-made is taken
        away again.
    type: int
    default: 600
"""
