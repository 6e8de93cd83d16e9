# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of virtual hardware that is about trust."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  secure_boot:
    description:
      - Whether the firmware is to check signatures of what it boots. V(true) is refused, with the reason.
    type: bool
    default: false
  vtpm:
    description:
      - Whether hosts are to have a virtual TPM. V(true) is refused, with the reason.
    type: bool
    default: false
"""
