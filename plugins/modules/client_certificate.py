# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module client_certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_certificate
short_description: Issue and revoke client certificates for Docker
version_added: 0.1.0
description:
  - Issues a client certificate that the hosts of a tenant let in, into a directory as E(DOCKER_CERT_PATH) wants it.
  - Revokes such a certificate. Every running host of the tenant refuses it from then on and hangs up on whoever is
    connected. Hosts that are off refuse it before their network link comes up again.
  - A certificate is made anew when less than a third of its life is left.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
  - stockyard.container_hosts.tenant
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Whom it is for. It is the certificate's common name. The one of V(operator) is what the other modules use.
    type: str
    required: true
  state:
    description:
      - V(present) has a certificate that is valid.
      - V(absent) revokes every certificate that was issued to this name with the same O(pki_dir), and the one that
        O(serial) or O(certificate) names. The files in O(directory) are left where they are.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description:
      - Where C(ca.pem), C(cert.pem) and C(key.pem) are put. By default C(clients/NAME) in the tenant's part of
        O(pki_dir).
    type: path
  days:
    description:
      - How long the certificate lasts, at most as long as its CA.
    type: int
    default: 90
  serial:
    description:
      - With O(state=absent), the serial number of a certificate in hex, for one that was issued elsewhere.
      - Write it in quotes.
    type: str
  certificate:
    description:
      - With O(state=absent), a certificate as PEM text, for one that was issued elsewhere.
    type: str
  timeout:
    description:
      - Seconds for everything that the module does. It waits for hosts that another run is at work on.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host_info
"""

EXAMPLES = r"""
- name: Let a pipeline in for a week
  stockyard.container_hosts.client_certificate:
    name: pipeline
    days: 7
    directory: /var/lib/pipeline/docker

- name: Shut it out again
  stockyard.container_hosts.client_certificate:
    name: pipeline
    state: absent

- name: Shut out whoever has this certificate
  stockyard.container_hosts.client_certificate:
    name: lost-laptop
    certificate: "{{ lookup('ansible.builtin.file', 'laptop.pem') }}"
    state: absent
"""

RETURN = r"""
certificates:
  description: The certificates that were issued to this name here and are valid, the one that lasts longest at the end.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Whom it is for.
      type: str
      sample: pipeline
    tenant:
      description: The tenant whose hosts it opens.
      type: str
      sample: default
    directory:
      description: Where the newest one of this name is put.
      type: str
      sample: /var/lib/pipeline/docker
    serial:
      description: Its serial number, in hex.
      type: str
      sample: 3f8a11c09be2
    not_after:
      description: When it ends, in seconds since the epoch.
      type: float
      sample: 1798761600.0
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["revoke client pipeline: it is to be absent"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: admitted anew (its list of revoked certificates is behind)"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: tenant default
    cause: ""
    remedy: "bring it back, or converge the yard first: hosts are admitted to a new one"
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import TENANT, client

OPTIONS = {
    **TENANT,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "directory": {"type": "path"},
    "days": {"type": "int", "default": 90},
    "serial": {"type": "str"},
    "certificate": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}

ACTS = {
    "present": lambda yard, params, how: yard.client_certificate(client(params), check=how["check"]),
    "absent": lambda yard, params, how: yard.revoke(
        client(params), serial=params["serial"] or "", certificate=params["certificate"] or "", **how
    ),
}


def main() -> None:
    """Run the module."""
    module = changing(OPTIONS)
    change(module, ACTS[module.params["state"]], lambda found: {"certificates": found})


if __name__ == "__main__":
    main()
