# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that name a Jenkins controller, and a fleet whose hosts are its agents."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  controller_url:
    description:
      - The URL of the Jenkins controller, with its path if it has one. A token that is sent over C(http) can be read on
        the way.
      - If it is not given, the value of the environment variable E(JENKINS_URL) is used.
    type: str
    required: true
  controller_user:
    description:
      - The user who asks. He needs the permissions Overall/Read and Agent/Build, Configure, Connect, Create, Delete,
        Disconnect and ExtendedRead.
      - If it is not given, the value of the environment variable E(JENKINS_USER_ID) is used.
    type: str
    default: ""
  controller_token:
    description:
      - His API token. A password does as well, but needs more requests.
      - If it is not given, the value of the environment variable E(JENKINS_API_TOKEN) is used.
    type: str
  controller_ca_path:
    description:
      - A file of PEM certificates of the authorities that are believed, instead of the system's.
    type: path
  fleet:
    description:
      - The fleet whose hosts are agents.
    type: str
    required: true
  tenant:
    description:
      - The tenant that the fleet belongs to.
    type: str
    default: default
"""
