# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of trusted virtual hardware."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  secure_boot:
    description:
      - Whether the firmware checks the signatures of the boot loader and kernel. Not supported.
        V(true) is an error that states the reason.
    type: bool
    default: false
  vtpm:
    description:
      - Whether the hosts have a virtual TPM. Not supported. V(true) is an error that states the
        reason.
    type: bool
    default: false
"""
