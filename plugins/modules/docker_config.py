# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module docker_config."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_config
short_description: Manage the configuration of dockerd in daemon.json
version_added: 0.1.0
description:
  - Sets keys in C(daemon.json) of the machine that it runs on, and applies the change to dockerd.
  - The types of the values are checked first. Then dockerd validates the configuration before the
    file changes, also in check mode, if it supports that (Docker 23.0 or later).
  - dockerd is reloaded if that is sufficient, and restarted otherwise. It is not touched if nothing
    changed or if it is not running.
  - If dockerd does not start with the new configuration, the module restores the old one, starts
    dockerd and fails.
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
  - systemd
options:
  config:
    description:
      - The keys and their values. A value replaces the whole key. A null value removes the key.
    type: dict
    required: true
  purge:
    description: Whether to remove keys that are not in O(config).
    type: bool
    default: false
  path:
    description: The path of the configuration file.
    type: path
    default: /etc/docker/daemon.json
  service:
    description: The systemd unit of dockerd.
    type: str
    default: docker
  take_up:
    description:
      - Whether to apply the change to dockerd. With V(false) a handler or the next boot must apply
        it.
    type: bool
    default: true
seealso:
  - module: stockyard.container_hosts.subid
  - module: stockyard.container_hosts.audit
"""

EXAMPLES = r"""
- name: Limit the size of logs and isolate containers
  stockyard.container_hosts.docker_config:
    config:
      log-driver: json-file
      log-opts: {max-size: 10m, max-file: "3"}
      icc: false

- name: Remove the registry mirrors
  stockyard.container_hosts.docker_config:
    config: {registry-mirrors: null}
"""

RETURN = r"""
config:
  description:
    - The configuration after the run, or in check mode the configuration that would result.
  returned: success
  type: dict
  sample: {icc: false, log-driver: json-file}
keys:
  description: The keys that changed.
  returned: success
  type: list
  elements: str
  sample: [icc]
action:
  description:
    - The action on dockerd, or in check mode the action that would be taken. One of V(none),
      V(reload) and V(restart).
  returned: success
  type: str
  sample: restart
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: DaemonRefused
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: /etc/docker/daemon.json
    cause:
      description: The cause. It can be empty.
      type: str
      sample: unable to configure the Docker daemon
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: correct the setting that the cause names; see journalctl -u docker for details
"""

from typing import Any

from ..module_utils._ansible import run_local
from ..module_utils.stockyard.hostconfig import (
    daemon,
)
from ..module_utils.stockyard.hostconfig.machine import (
    Machine,
)

OPTIONS = {
    "config": {"type": "dict", "required": True},
    "purge": {"type": "bool", "default": False},
    "path": {"type": "path", "default": daemon.PATH},
    "service": {"type": "str", "default": "docker"},
    "take_up": {"type": "bool", "default": True},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Plan the change, and apply it outside check mode."""
    machine, path = Machine(), params["path"]
    change = daemon.plan(machine, params["config"], purge=params["purge"], path=path)
    how = {"path": path, "service": params["service"], "take_up": params["take_up"]}
    if check and change.changed:
        daemon.validate(machine, change.after)
    action = change.action if check else daemon.apply(machine, change, **how)
    texts = {
        side: daemon.text(value)
        for side, value in (("before", change.before), ("after", change.after))
    }
    diff = {**texts, "before_header": path, "after_header": path}
    return {
        "changed": change.changed,
        "config": change.after,
        "keys": change.keys,
        "action": action,
        "diff": diff,
    }


def main() -> None:
    """Run the module."""
    run_local(OPTIONS, work)


if __name__ == "__main__":
    main()
