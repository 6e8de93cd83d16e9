# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a Jenkins controller and of the fleet that serves it."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  controller_url:
    description:
      - The URL of the Jenkins controller, with its path if it has one. Over C(http) the API token
        is sent in clear text.
      - If it is not set, the value of the environment variable E(JENKINS_URL) is used.
    type: str
    required: true
  controller_user:
    description:
      - The user for the requests to the Jenkins controller. It needs the permissions Overall/Read
        and Agent/Build, Configure, Connect, Create, Delete, Disconnect and ExtendedRead.
      - If it is not set, the value of the environment variable E(JENKINS_USER_ID) is used.
    type: str
    default: ""
  controller_token:
    description:
      - The API token of O(controller_user). A password works too, but needs more requests.
      - If it is not set, the value of the environment variable E(JENKINS_API_TOKEN) is used.
    type: str
  controller_ca_path:
    description: A file with PEM certificates of the authorities to trust, instead of the system's.
    type: path
  fleet:
    description: The fleet whose hosts are agents of the Jenkins controller.
    type: str
    required: true
  tenant:
    description: The tenant that the fleet belongs to.
    type: str
    default: default
"""
