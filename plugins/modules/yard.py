# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module yard."""

from __future__ import annotations

DOCUMENTATION = r"""
module: yard
short_description: Have a whole yard as declared, or take it away
version_added: 0.1.0
description:
  - With V(present) it makes all pools, templates, volumes and fleets of a declaration, in this order, and can take
    away what is not declared any more. Its plan is one for all. In check mode it shows which hosts are replaced because
    their template will have a new generation.
  - With V(absent) it destroys every host of an owner on a hypervisor, in fleets and single, whether anything still
    declares it or not. Volumes stay, and are named, unless O(volumes=true).
  - Objects of other owners, and objects whose record cannot be read, are left alone.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
  - stockyard.container_hosts.progress
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: Not with fleets that have C(recreate=always), which makes every host anew.
options:
  state:
    description:
      - V(present) has the yard as O(declaration) says.
      - V(absent) takes the yard away.
    type: str
    choices: [present, absent]
    required: true
  declaration:
    description:
      - What the yard is to have. Required when O(state=present).
      - C(templates) is a list, each with the options of M(stockyard.container_hosts.template). C(fleets) is a list,
        each with the options of M(stockyard.container_hosts.fleet), and C(pools) one with those of
        M(stockyard.container_hosts.pool). C(volumes) is a list, each with the options of
        M(stockyard.container_hosts.volume) but C(host) and C(path), and with the states V(present) and V(absent). They
        are made in their order, before the fleets. Each item has a C(timeout) of its own.
      - Pools that are made or grow come first, pools that shrink after the fleets.
    type: dict
  prune:
    description:
      - What happens to fleets, templates and pools of the owner that are not declared. Single hosts always stay, and
        so do templates that hosts live on, and pools that something is in. Volumes always stay.
      - V(no) leaves them. V(yes) takes them away. Where the list of fleets is empty no fleet goes, and where the list
        of templates is empty no template goes, and so with pools, because it is more likely lost than meant.
      - V(force) takes them away even then.
      - Nothing goes when a part of the declaration failed.
    type: str
    choices: ["no", "yes", force]
    default: "no"
  rebuild:
    description:
      - Whether to have every template built from the packages that the mirrors have now, as with C(upgrade=true).
    type: bool
    default: false
  here:
    description:
      - The name of this hypervisor among the C(hypervisors) of fleets.
    type: str
  evacuate:
    description:
      - Whether fleets leave this hypervisor that are declared to leave it. With V(false) they stay as they are, until
        the other hypervisors have their hosts.
    type: bool
    default: true
  save_plan:
    description:
      - A file, ending in C(.json), that the plan is saved to, in check mode too. Beside it, with the ending C(.md), it
        is written as a table.
    type: path
  only_if:
    description:
      - A saved plan. Nothing is done unless just that is still to be done, to objects that are as they were. Otherwise
        the module fails and says what changed.
    type: path
  templates:
    description:
      - Whether O(state=absent) takes templates and pools away too.
    type: bool
    default: false
  volumes:
    description:
      - Whether O(state=absent) deletes volumes and snapshots too, with all that is on them.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for everything that the module does when O(state=absent).
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Have a yard as a file declares it, and nothing else
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ lookup('ansible.builtin.file', 'yard.yml') | from_yaml }}"
    prune: "yes"

- name: Save what would be done
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ yard }}"
    save_plan: plan.json
  check_mode: true

- name: Do it, if that is still true
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ yard }}"
    only_if: plan.json

- name: Destroy all hosts and keep the templates
  stockyard.container_hosts.yard:
    state: absent

- name: Destroy everything that a pipeline made
  stockyard.container_hosts.yard:
    owner: pipeline-42
    state: absent
    templates: true
"""

RETURN = r"""
hosts:
  description:
    - The names of the hosts of all declared fleets. With O(state=absent) those that are left, which is none after a
      success outside check mode.
  returned: success
  type: list
  elements: str
  sample: []
members:
  description: The hosts of all declared fleets, each as M(stockyard.container_hosts.fleet) returns it.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: []
kept:
  description: What stays although the yard goes. The volumes, unless they were to be deleted.
  returned: when O(state=absent), and something stays
  type: list
  elements: str
  sample: ["volume results"]
plan:
  description: What was done, or would be done in check mode. Empty when nothing had to be.
  returned: success
  type: list
  elements: str
  sample: ["destroy host web-1: the yard is taken away"]
progress:
  description: The stages that ended, as they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: destroyed"]
error:
  description: What went wrong, in parts.
  returned: failure
  type: dict
  sample:
    kind: Busy
    object: stockyard.default.fleet.web
    cause: ""
    remedy: wait, then run again
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import change, changing
from ansible_collections.stockyard.container_hosts.plugins.module_utils._specs import PRUNE, declaration

OPTIONS = {
    "state": {"type": "str", "choices": ["present", "absent"], "required": True},
    "declaration": {"type": "dict"},
    "prune": {"type": "str", "choices": list(PRUNE), "default": "no"},
    "rebuild": {"type": "bool", "default": False},
    "here": {"type": "str"},
    "evacuate": {"type": "bool", "default": True},
    "save_plan": {"type": "path"},
    "only_if": {"type": "path"},
    "templates": {"type": "bool", "default": False},
    "volumes": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}

ACTS = {
    "present": lambda yard, params, how: yard.site(
        declaration(params),
        check=how["check"],
        save_plan=params["save_plan"] or "",
        only_if=params["only_if"] or "",
    ),
    "absent": lambda yard, params, how: yard.teardown(templates=params["templates"], volumes=params["volumes"], **how),
}

SHOWS = {
    "present": lambda found: {"hosts": [host["name"] for host in found], "members": found},
    "absent": lambda found: {"hosts": [host["name"] for host in found]},
}


def main() -> None:
    """Run the module."""
    module = changing(OPTIONS, required_if=[("state", "present", ["declaration"])])
    state = module.params["state"]
    change(module, ACTS[state], SHOWS[state])


if __name__ == "__main__":
    main()
