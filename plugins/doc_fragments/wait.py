# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of waiting times."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until Docker answers over mutual TLS in every host that was created or
        started.
      - With V(false) the module returns as soon as each host has its identity and its network.
        Docker usually answers a second later. If Docker never answers, the module does not detect
        it.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that the whole run of the module can take. After that time the module fails, and an
        incomplete host is deleted.
    type: int
    default: 600
"""
