# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module audit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Compare the security that is in force in a host with the one it should have
version_added: 0.1.0
description:
  - Reads from the kernel, from dockerd and from each container that runs what is really in force on the machine that
    it runs on, and compares it with a profile. It changes nothing.
  - With O(benchmark) it goes through the checks of the CIS Docker Benchmark 1.6 as well, sections 1 to 3. What does not
    hold there and need not has its reason in C(waiver).
  - It needs root, and refuses anybody else, who sees too little to say that all is well.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.security
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - Python 3.11 or later on the machine
  - Docker's client
options:
  security:
    description:
      - What the host should be like. By default what its template or the roles wrote down there.
  benchmark:
    description:
      - Whether to go through the CIS Docker Benchmark too.
    type: bool
    default: false
  docker_users:
    description:
      - Who may be in the group C(docker), for the benchmark.
    type: list
    elements: str
    default: []
  fail:
    description:
      - Whether anything that is not as it should be fails the task.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Have only hosts that are what they should be
  stockyard.container_hosts.audit:
    benchmark: true
    docker_users: [stockyard]
    fail: true
  become: true
"""

RETURN = r"""
compliant:
  description: Whether everything is as it should be, or has a waiver.
  returned: always
  type: bool
  sample: true
profile:
  description: The profile that the host was compared with.
  returned: always
  type: str
  sample: hostile
findings:
  description: Everything that was looked at.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: What was looked at.
      type: str
      sample: user namespaces
    expected:
      description: How it should be.
      type: str
      sample: remap
    found:
      description: How it is.
      type: str
      sample: none
    ok:
      description: Whether that is well. Null where it could not be told.
      type: bool
      sample: false
    waiver:
      description: Why it need not be. Empty where it should be.
      type: str
      sample: ""
"""

from dataclasses import asdict
from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import here
from ansible_collections.stockyard.container_hosts.plugins.module_utils._security import SECURITY, security_spec
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.errors import Refused
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost import audit, cis
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.machine import of_root

OPTIONS = {
    "security": {"type": "dict", "options": SECURITY},
    "benchmark": {"type": "bool", "default": False},
    "docker_users": {"type": "list", "elements": "str", "default": []},
    "fail": {"type": "bool", "default": False},
}


def work(params: dict[str, Any], _check: bool) -> dict[str, Any]:
    """Look at everything."""
    machine = of_root("audit")
    said = params["security"]
    looking = audit.Audit(machine, security_spec(said).settings() if said else audit.settings_of(machine))
    found = looking.findings()
    if params["benchmark"]:
        found += cis.findings(looking, frozenset(params["docker_users"]))
    bad = [finding for finding in found if finding.bad]
    if bad and params["fail"]:
        raise Refused(
            f"{len(bad)} of {len(found)} checks do not hold.",
            cause="; ".join(f"{f.check}: {f.found} instead of {f.expected}" for f in bad[:20]),
            remedy="put the profile on the host again, or look who changed it",
        )
    told = {"compliant": not bad, "profile": looking.settings.profile, "findings": [asdict(f) for f in found]}
    return {"changed": False, **told}


def main() -> None:
    """Run the module."""
    here(OPTIONS, work)


if __name__ == "__main__":
    main()
