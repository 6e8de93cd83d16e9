# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module audit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Run a security audit of a Docker host
version_added: 0.1.0
description:
  - Compares the settings that are in force on the machine with a security profile. The settings are
    read from the kernel, from dockerd and from each running container. The module changes nothing.
  - With O(benchmark=true) the module also runs the checks of the CIS Docker Benchmark 1.6, sections
    1 to 3. A check that fails but is not required has a reason in C(waiver).
  - The module must run as root. For other users it fails, because they cannot read all settings.
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
      - The expected settings. By default the settings that the template or the roles recorded on
        the machine.
    type: dict
  benchmark:
    description: Whether to run the checks of the CIS Docker Benchmark.
    type: bool
    default: false
  docker_users:
    description: The users that can be members of the group C(docker), for the benchmark.
    type: list
    elements: str
    default: []
  fail:
    description: Whether the task fails if a check fails.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check that the host complies with its profile and with the benchmark
  stockyard.container_hosts.audit:
    benchmark: true
    docker_users: [stockyard]
    fail: true
  become: true
"""

RETURN = r"""
compliant:
  description: Whether every check passes or has a waiver.
  returned: success
  type: bool
  sample: true
profile:
  description: The profile that the machine was compared with.
  returned: success
  type: str
  sample: hostile
findings:
  description: The results of all checks.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: The name of the check.
      type: str
      sample: user namespaces
    expected:
      description: The expected value.
      type: str
      sample: remap
    found:
      description: The value in force.
      type: str
      sample: none
    ok:
      description: Whether the check passes. Null if that cannot be determined.
      type: bool
      sample: false
    waiver:
      description: The reason why a deviation is accepted. Empty if it is not accepted.
      type: str
      sample: ""
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: HypervisorError
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: qemu:///session
    cause:
      description: The cause. It can be empty.
      type: str
      sample: Failed to connect socket to /run/user/1000/libvirt/virtqemud-sock
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: start libvirt, then run again
"""

from dataclasses import asdict
from typing import Any

from ..module_utils._ansible import run_local
from ..module_utils.stockyard.declarations.security import (
    SECURITY,
    security_spec,
)
from ..module_utils.stockyard.errors import (
    OperationRefused,
)
from ..module_utils.stockyard.hostconfig import (
    audit,
    cis,
)
from ..module_utils.stockyard.hostconfig.machine import (
    of_root,
)

OPTIONS = {
    "security": {"type": "dict", "options": SECURITY},
    "benchmark": {"type": "bool", "default": False},
    "docker_users": {"type": "list", "elements": "str", "default": []},
    "fail": {"type": "bool", "default": False},
}


def work(params: dict[str, Any], _check: bool) -> dict[str, Any]:
    """Run all checks."""
    machine = of_root("audit")
    declared = params["security"]
    auditor = audit.Audit(
        machine, security_spec(declared).settings() if declared else audit.settings_of(machine)
    )
    findings = auditor.findings()
    if params["benchmark"]:
        findings += cis.findings(auditor, frozenset(params["docker_users"]))
    bad = [finding for finding in findings if finding.bad]
    if bad and params["fail"]:
        raise OperationRefused(
            f"{len(bad)} of {len(findings)} checks do not hold.",
            cause="; ".join(f"{f.check}: {f.found} instead of {f.expected}" for f in bad[:20]),
            remedy="apply the profile again, and find the cause of the change",
        )
    result = {
        "compliant": not bad,
        "profile": auditor.settings.profile,
        "findings": [asdict(f) for f in findings],
    }
    return {"changed": False, **result}


def main() -> None:
    """Run the module."""
    run_local(OPTIONS, work)


if __name__ == "__main__":
    main()
