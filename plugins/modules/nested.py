# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module nested."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nested
short_description: Manage a nested Docker daemon for one CI job
version_added: 0.1.0
description:
  - Runs a container with its own dockerd on the machine that the module runs on. A job that runs in
    the container through C(docker exec) uses this dockerd. It has no access to the host's Docker
    socket, and its containers are not listed by the host's Docker.
  - Memory, CPU time, processes and disk are limited for the whole container, including the job. The
    job can set lower limits for its containers.
  - No registry is contacted. The container uses the programs of the host's packages, mounted
    read-only.
  - O(state=absent) deletes the container and all its images, volumes, mounts, files and processes.
  - A host can have one nested daemon at a time. The module must run as root.
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
  - The Debian packages C(docker.io), C(iptables) and C(e2fsprogs), and for O(mode=rootless) also
    C(rootlesskit), C(slirp4netns) and C(uidmap)
options:
  name:
    description: The name of the container.
    type: str
    default: nested
  mode:
    description:
      - V(rootless) runs everything as an unprivileged user in a user namespace. It is an error if
        the kernel does not let ordinary users create user namespaces, as with the profiles
        V(shared) and V(hostile) unless C(sysctls) permit them, or if an authorization plugin would
        deny it.
      - V(privileged) runs everything as root of the host. It is an error unless the host's profile
        is V(trusted).
    type: str
    choices: [rootless, privileged]
    default: rootless
  memory_mib:
    description:
      - The memory limit for the whole container, in MiB. It includes the job, the nested daemon and
        its containers. At least 256. Swap is not available.
    type: int
    default: 1024
  cpus:
    description: The CPU limit for the whole container, as a number of CPUs from 0.01 to 1024.
    type: float
    default: 1.0
  pids:
    description: The limit of processes and threads for the whole container. At least 128.
    type: int
    default: 1024
  disk_mib:
    description:
      - The size of the file system for images, containers and files of the job, in MiB. At least
        256. It is a sparse file on the host's disk, and is deleted with the container.
    type: int
    default: 4096
  config:
    description:
      - Keys of the nested daemon's C(daemon.json), such as C(registry-mirrors). Keys that the
        container itself depends on, such as C(data-root), are errors.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait until the nested daemon answers, from 1 to 3600.
    type: float
    default: 300
  state:
    description:
      - V(present) creates and starts the container, and replaces it if it differs.
      - V(absent) stops and deletes the container and everything that runs in it.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: stockyard.container_hosts.docker_config
  - module: stockyard.container_hosts.subid
"""

EXAMPLES = r"""
- name: Create a nested Docker daemon for this job
  stockyard.container_hosts.nested:
    memory_mib: 2048
    cpus: 2
    config: {registry-mirrors: ["https://mirror.example.com"]}
  become: true
  register: nested

- name: Build an image with the nested daemon
  ansible.builtin.command:
    argv: "{{ nested.exec + ['docker', 'build', '-t', 'app', '.'] }}"

- name: Delete the nested daemon and all its data
  stockyard.container_hosts.nested:
    state: absent
  become: true
"""

RETURN = r"""
exec:
  description:
    - The words to put before a command to run it in the container. Empty if the container is
      absent.
  returned: success
  type: list
  elements: str
  sample: [docker, exec, --interactive, nested]
nested:
  description:
    - The settings of the container after the run, or in check mode the settings that would result.
      Empty if the container is absent.
  returned: success
  type: dict
  sample:
    name: nested
    mode: rootless
    memory_mib: 1024
    cpus: 1.0
    pids: 1024
    disk_mib: 4096
    config: {}
  contains:
    name:
      description: The name of the container.
      type: str
      sample: nested
    mode:
      description: V(rootless), or V(privileged), which is root of the host.
      type: str
      sample: rootless
    memory_mib:
      description:
        - The maximum memory of the job, its dockerd and the containers of that dockerd together, in
          MiB.
      type: int
      sample: 1024
    cpus:
      description: The maximum CPU time of the same, in CPUs.
      type: float
      sample: 1.0
    pids:
      description: The maximum number of processes and threads of the same.
      type: int
      sample: 1024
    disk_mib:
      description: The disk space for images, containers and files of the job, in MiB.
      type: int
      sample: 4096
    config:
      description: The keys of the C(daemon.json) in the container.
      type: dict
      sample: {}
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
      sample: nested nested
    cause:
      description: The cause. It can be empty.
      type: str
      sample: this host's profile is shared, and root of a privileged container is root of the host
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: choose mode rootless, or an exclusive host with the profile trusted
"""

import json
from typing import Any

from ..module_utils._ansible import run_local
from ..module_utils.stockyard.clock import (
    Deadline,
)
from ..module_utils.stockyard.declarations.options import options
from ..module_utils.stockyard.hostconfig.machine import (
    of_root,
)
from ..module_utils.stockyard.hostconfig.nested import (
    converge,
)
from ..module_utils.stockyard.hostconfig.nested.spec import (
    NestedSpec,
)
from ..module_utils.stockyard.model import (
    naming,
)

OPTIONS = {
    **options(NestedSpec),
    "timeout": {"type": "float", "default": 300},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Converge the container, or return the plan in check mode."""
    timeout = naming.seconds("timeout", params.pop("timeout"), 1, 3600)
    present = params.pop("state") == "present"
    spec = NestedSpec(**params)
    how = {"present": present, "check": check, "deadline": Deadline(timeout)}
    outcome = converge.converge(of_root(f"nested {spec.name}"), spec, **how)
    diff = {
        side: json.dumps(getattr(outcome, side), indent=1, sort_keys=True) + "\n"
        for side in ("before", "after")
    }
    return {
        "changed": outcome.changed,
        "nested": outcome.after,
        "diff": diff,
        "exec": ["docker", "exec", "--interactive", spec.name] if present else [],
    }


def main() -> None:
    """Run the module."""
    run_local(OPTIONS, work)


if __name__ == "__main__":
    main()
