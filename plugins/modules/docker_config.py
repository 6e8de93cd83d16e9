# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module docker_config."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_config
short_description: Configure dockerd
version_added: 0.1.0
description:
  - Has keys in C(daemon.json) of the machine that it runs on, and has dockerd take them up.
  - The types of values are checked first. Then dockerd is asked whether it takes the configuration before anything is
    changed, in check mode too, if it can be asked (23.0 and later).
  - dockerd is reloaded where that is enough, restarted where it is not, and left alone where nothing changed or
    where it does not run.
  - A configuration that dockerd does not start with is taken back, dockerd is started with the old one, and the module
    fails.
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
      - Keys and values, each as a whole. One that is null is taken away.
    type: dict
    required: true
  purge:
    description:
      - Whether keys that are not in O(config) are taken away.
    type: bool
    default: false
  path:
    description:
      - The file.
    type: path
    default: /etc/docker/daemon.json
  service:
    description:
      - The unit of dockerd.
    type: str
    default: docker
  take_up:
    description:
      - Whether dockerd is told of the change. V(false) leaves that to a handler or to the next boot.
    type: bool
    default: true
seealso:
  - module: stockyard.container_hosts.subid
  - module: stockyard.container_hosts.audit
"""

EXAMPLES = r"""
- name: Keep logs small, and containers apart
  stockyard.container_hosts.docker_config:
    config:
      log-driver: json-file
      log-opts: {max-size: 10m, max-file: "3"}
      icc: false

- name: Use no mirror any more
  stockyard.container_hosts.docker_config:
    config: {registry-mirrors: null}
"""

RETURN = r"""
config:
  description: The configuration as it is, or would be in check mode.
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
  description: What was done to dockerd, or would be in check mode. V(none), V(reload) or V(restart).
  returned: success
  type: str
  sample: restart
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: DaemonRefused
    object: /etc/docker/daemon.json
    cause: "unable to configure the Docker daemon"
    remedy: correct the setting that the cause names; journalctl -u docker has more
"""

from typing import Any

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import here
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost import daemon
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.onhost.machine import Machine

OPTIONS = {
    "config": {"type": "dict", "required": True},
    "purge": {"type": "bool", "default": False},
    "path": {"type": "path", "default": daemon.PATH},
    "service": {"type": "str", "default": "docker"},
    "take_up": {"type": "bool", "default": True},
}


def work(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Plan, and do it unless that is all."""
    machine, path = Machine(), params["path"]
    change = daemon.plan(machine, params["config"], purge=params["purge"], path=path)
    how = {"path": path, "service": params["service"], "take_up": params["take_up"]}
    if check and change.changed:
        daemon.validate(machine, change.after)
    action = change.action if check else daemon.apply(machine, change, **how)
    texts = {side: daemon.text(value) for side, value in (("before", change.before), ("after", change.after))}
    diff = {**texts, "before_header": path, "after_header": path}
    return {"changed": change.changed, "config": change.after, "keys": change.keys, "action": action, "diff": diff}


def main() -> None:
    """Run the module."""
    here(OPTIONS, work)


if __name__ == "__main__":
    main()
