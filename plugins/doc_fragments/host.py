# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a host, alone or in a fleet."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  ports:
    description:
      - TCP ports of the host that the hypervisor publishes on the host's address, for C(docker run --publish).
      - The ports 2222 (SSH) and 2376 (Docker) are always published and cannot be named here.
    type: list
    elements: int
    default: []
  labels:
    description:
      - Labels that each host carries. Values are strings. A change of labels keeps the host.
    type: dict
    default: {}
  authorized_keys:
    description:
      - SSH public keys that may log in as the template's user, each as the text of a C(.pub) file.
      - By default a key that is made in O(pki_dir) for the operator.
    type: list
    elements: str
    default: []
  fork_mode:
    description:
      - How a host is made, at best. When the hypervisor cannot do it, the next best is taken, and the host's
        RV(ignore:mode) and RV(ignore:mode_reason) say so.
      - V(instant) resumes the template's frozen memory, shared copy-on-write. The disk is an overlay.
      - V(linked) boots from an overlay on the template's disk.
      - V(full) boots from a copy of the template's disk.
    type: str
    choices: [instant, linked, full]
    default: instant
  engine_identity:
    description:
      - V(shared) keeps the Docker engine ID of the template, so that all hosts of one template show the same.
      - V(unique) gives each host an engine ID of its own. It restarts Docker in the new host, which takes seconds.
    type: str
    choices: [shared, unique]
    default: shared
"""
