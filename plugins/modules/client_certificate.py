# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module client_certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_certificate
short_description: Manage a TLS client certificate for Docker hosts
version_added: 0.1.0
description:
  - Issues a client certificate that is valid for all hosts of a tenant, in a directory with the
    layout of E(DOCKER_CERT_PATH).
  - Revokes client certificates. All running hosts of the tenant then refuse the certificate and
    close its connections. Stopped hosts refuse it before their network link comes up again.
  - A certificate is renewed if less than a third of its life is left.
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
      - The user or job that the certificate is for. It becomes the common name of the certificate.
        The other modules use the certificate of V(operator).
    type: str
    required: true
  state:
    description:
      - V(present) issues a certificate if there is no valid one.
      - V(absent) revokes every certificate that was issued for this name with the same O(pki_dir),
        and the certificate that O(serial) or O(certificate) identifies. The files in O(directory)
        are not deleted.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description:
      - The directory for C(ca.pem), C(cert.pem) and C(key.pem). By default C(clients/NAME) in the
        tenant's directory in O(pki_dir).
    type: path
  days:
    description:
      - The validity of the certificate in days, from 1 to 3650. It cannot exceed the validity of
        its CA.
    type: int
    default: 90
  serial:
    description:
      - With O(state=absent), the serial number of a certificate that was issued elsewhere, in
        hexadecimal digits.
      - Write the number in quotes.
    type: str
  certificate:
    description: With O(state=absent), a certificate that was issued elsewhere, as PEM text.
    type: str
  timeout:
    description:
      - Seconds that the whole run of the module can take.
      - The module waits for hosts that another run is changing.
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host_info
"""

EXAMPLES = r"""
- name: Issue a certificate for a pipeline, valid for a week
  stockyard.container_hosts.client_certificate:
    name: pipeline
    days: 7
    directory: /var/lib/pipeline/docker

- name: Revoke all certificates of the pipeline
  stockyard.container_hosts.client_certificate:
    name: pipeline
    state: absent

- name: Revoke a certificate that was issued elsewhere
  stockyard.container_hosts.client_certificate:
    name: lost-laptop
    certificate: "{{ lookup('ansible.builtin.file', 'laptop.pem') }}"
    state: absent
"""

RETURN = r"""
certificates:
  description:
    - The valid certificates that were issued for this name in this O(pki_dir). The last one has the
      latest end.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The user or job that the certificate is for.
      type: str
      sample: pipeline
    tenant:
      description: The tenant whose hosts accept the certificate.
      type: str
      sample: default
    directory:
      description: The directory of the newest certificate for this name.
      type: str
      sample: /var/lib/pipeline/docker
    serial:
      description: The serial number, in hexadecimal digits.
      type: str
      sample: 3f8a11c09be2
    not_after:
      description: The end of the validity, in seconds since the epoch.
      type: float
      sample: 1798761600.0
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["revoke client pipeline: it is declared absent"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: certificate renewed (its list of revoked certificates is outdated)"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: OperationRefused
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: tenant default
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: restore the CA, or converge the yard first, which gives hosts certificates of a new CA
"""

from typing import Any

from ..module_utils._ansible import (
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.options import options, specification
from ..module_utils.stockyard.resources.certificates.clients import Client
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    **options(Client, directory={"type": "path", "default": None}),
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "serial": {"type": "str"},
    "certificate": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Issue or revoke certificates as the task declares."""
    client = specification(Client, params)
    if params["state"] == "present":
        return yard.certificates.issue(client, check=mode["check"])
    serial, certificate = params["serial"] or "", params["certificate"] or ""
    return yard.certificates.revoke(client, serial=serial, certificate=certificate, **mode)


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS)
    run_change(module, change, lambda certificates: {"certificates": certificates})


if __name__ == "__main__":
    main()
