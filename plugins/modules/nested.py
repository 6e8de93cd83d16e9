# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module nested."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nested
short_description: Have a container with a Docker of its own, for one CI job
version_added: 0.1.0
description:
  - Has a container on the machine that it runs on, and in it a dockerd of its own. A job that runs there, by
    C(docker exec), has Docker without the host's, whose socket is not in it. Its containers are not among the host's.
  - Memory, CPU time, processes and disk are limited for all of it together. The job may give its containers less.
  - No registry is asked. The programs are the host's own, those of its packages, mounted read-only.
  - With O(state=absent) nothing of it is left, no container, image, volume, mount, file or process.
  - A host has one at a time. It needs root.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
requirements:
  - Python 3.11 or later on the machine
  - cgroups of version 2
  - Debian's packages C(docker.io), C(iptables) and C(e2fsprogs), for V(rootless) also C(rootlesskit), C(slirp4netns)
    and C(uidmap)
options:
  name:
    description:
      - The name of the container.
    type: str
    default: nested
  mode:
    description:
      - V(rootless) runs all of it as a user without rights, in a user name space. It is refused where the kernel lets
        ordinary users make none, as with the profiles V(shared) and V(hostile) unless C(sysctls) say otherwise, and
        where an authorization plugin would refuse it.
      - V(privileged) runs it as root of the host. It is refused where the host's profile is not V(trusted).
    type: str
    choices: [rootless, privileged]
    default: rootless
  memory_mib:
    description:
      - Memory of all of it together, in MiB. There is no swap beside it.
    type: int
    default: 1024
  cpus:
    description:
      - CPU time of all of it together, in CPUs.
    type: float
    default: 1.0
  pids:
    description:
      - Processes and threads of all of it together.
    type: int
    default: 1024
  disk_mib:
    description:
      - The file system that has its images, containers and the job's files, in MiB. It is a sparse file on the host's
        disk, which goes with it.
    type: int
    default: 4096
  config:
    description:
      - Keys of its C(daemon.json), such as C(registry-mirrors).
    type: dict
    default: {}
  timeout:
    description:
      - Seconds until its Docker has to answer.
    type: float
    default: 300
  state:
    description:
      - V(absent) ends it, and whatever runs in it.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: stockyard.container_hosts.docker_config
  - module: stockyard.container_hosts.subid
"""

EXAMPLES = r"""
- name: Have a Docker for this job
  stockyard.container_hosts.nested:
    memory_mib: 2048
    cpus: 2
    config: {registry-mirrors: ["https://mirror.example.com"]}
  become: true
  register: nested

- name: Build in it
  ansible.builtin.command:
    argv: "{{ nested.exec + ['docker', 'build', '-t', 'app', '.'] }}"

- name: Leave nothing
  stockyard.container_hosts.nested:
    state: absent
  become: true
"""

RETURN = r"""
exec:
  description: What to put before a command that is to run in it. Empty when it is absent.
  returned: success
  type: list
  elements: str
  sample: [docker, exec, --interactive, nested]
nested:
  description: What it is like, or would be in check mode. Empty when it is absent.
  returned: success
  type: dict
  sample: {name: nested, mode: rootless, memory_mib: 1024, cpus: 1.0, pids: 1024, disk_mib: 4096, config: {}}
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Refused
    object: nested nested
    cause: "this host's profile is shared, and root of a privileged container is root of the host"
    remedy: choose mode rootless, or a host with the profile trusted that nobody else has
"""

import json
from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import here
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.core import naming
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.core.clock import Deadline
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.machine import of_root
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.nested import converging
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.nested.spec import (
    MODES,
    NestedSpec,
)

OPTIONS = {
    "name": {"type": "str", "default": "nested"},
    "mode": {"type": "str", "choices": list(MODES), "default": "rootless"},
    "memory_mib": {"type": "int", "default": 1024},
    "cpus": {"type": "float", "default": 1.0},
    "pids": {"type": "int", "default": 1024},
    "disk_mib": {"type": "int", "default": 4096},
    "config": {"type": "dict", "default": {}},
    "timeout": {"type": "float", "default": 300},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Have it, or say what would be done."""
    timeout = naming.seconds("timeout", params.pop("timeout"), 1, 3600)
    present = params.pop("state") == "present"
    spec = NestedSpec(**params)
    how = {"present": present, "check": check, "deadline": Deadline(timeout)}
    outcome = converging.converge(of_root(f"nested {spec.name}"), spec, **how)
    diff = {side: json.dumps(getattr(outcome, side), indent=1, sort_keys=True) + "\n" for side in ("before", "after")}
    return {
        "changed": outcome.changed, "nested": outcome.after, "diff": diff,
        "exec": ["docker", "exec", "--interactive", spec.name] if present else [],
    }  # fmt: skip


def main() -> None:
    """Run the module."""
    here(OPTIONS, work)


if __name__ == "__main__":
    main()
