# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module yard."""

from __future__ import annotations

DOCUMENTATION = r"""
module: yard
short_description: Manage a yard of container hosts from a declaration
version_added: 0.1.0
description:
  - V(present) converges all pools, templates, volumes, fleets and endpoints of a declaration, in
    this order, and can delete objects that are no longer declared. One plan covers all objects. In
    check mode the plan also contains the hosts that are replaced because their template will have a
    new generation.
  - V(suspended) saves the memory of all running hosts of an owner on a hypervisor, declared or
    not, leased or not. They then use no RAM and no CPU time. V(present) resumes the hosts of
    declared fleets with their memory. Hosts with encrypted volumes are shut down instead, because
    their memory contains the keys of the volumes. V(present) starts them.
  - V(absent) deletes all hosts of an owner on a hypervisor, members of fleets and single hosts,
    whether they are declared or not. Volumes stay and are listed in RV(retained), unless
    O(volumes=true).
  - Objects of other owners and objects with an unreadable record are never changed.
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
    details: Not for fleets with C(recreate=always), which replaces every host.
options:
  state:
    description:
      - V(present) converges the yard to O(declaration).
      - V(suspended) suspends all running hosts of the yard.
      - V(absent) deletes all hosts of the yard.
    type: str
    required: true
    choices: [present, suspended, absent]
  declaration:
    description:
      - The objects of the yard. Required when O(state=present).
      - C(templates), C(fleets), C(pools) and C(endpoints) are lists. Each item has the options of
        M(stockyard.container_hosts.template), M(stockyard.container_hosts.fleet),
        M(stockyard.container_hosts.pool) or M(stockyard.container_hosts.endpoint).
      - C(volumes) is a list. Each item has the options of M(stockyard.container_hosts.volume),
        except C(host) and C(path), and the states V(present) and V(absent). Volumes are created in
        their order, before the fleets.
      - Each item has its own C(timeout).
      - Pools that are created or enlarged are changed first. Pools that are reduced are changed
        after the fleets.
    type: dict
  prune:
    description:
      - Whether to delete fleets, endpoints, templates and pools of the owner that are not declared.
        Volumes, single hosts, templates with hosts, and pools with members are never deleted.
      - V(no) keeps them.
      - V(yes) deletes templates and pools. If it would delete hosts because their fleet or endpoint
        is not declared, the module fails before anything is changed, in check mode too, unless the
        plan is saved in check mode with O(save_plan), or a saved plan is applied with
        O(apply_plan). A fleet or endpoint that is declared with the state C(absent), or a fleet
        with the count 0, is deleted without that.
      - With V(yes), a kind of object is kept if its list in the declaration is empty, because an
        empty list is usually a mistake.
      - V(force) deletes all of them, fleets and endpoints with hosts too, even if the list is
        empty.
      - Nothing is deleted if a part of the declaration failed.
    type: str
    choices: ["no", "yes", force]
    default: "no"
  rebuild:
    description:
      - Whether to build every template from the current packages of its mirrors, as with
        C(upgrade=true).
    type: bool
    default: false
  local_hypervisor:
    description: The name of this hypervisor in the C(hypervisors) of fleets.
    type: str
  evacuate:
    description:
      - Whether to delete hosts of fleets that declare this hypervisor as evacuated or dead. With
        V(false) these hosts stay until the other hypervisors have replaced them.
    type: bool
    default: true
  save_plan:
    description:
      - A file to save the plan in, also in check mode. The name must end in C(.json). A table of
        the plan is saved in the same directory with the ending C(.md).
    type: path
  apply_plan:
    description:
      - A saved plan. The module applies it only if the current plan is identical and the objects
        have not changed since. Otherwise the module fails and lists the differences.
    type: path
  templates:
    description: Whether O(state=absent) also deletes templates and pools.
    type: bool
    default: false
  volumes:
    description: Whether O(state=absent) also deletes volumes and snapshots, with their data.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that the whole run of the module can take when O(state=absent) or
        O(state=suspended). With O(state=present) the items of O(declaration) have their own
        C(timeout).
    type: int
    default: 600
seealso:
  - module: stockyard.container_hosts.fleet
  - module: stockyard.container_hosts.host
  - module: stockyard.container_hosts.template
"""

EXAMPLES = r"""
- name: Converge a yard to a declaration in a file, and delete undeclared objects
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ lookup('ansible.builtin.file', 'yard.yml') | from_yaml }}"
    prune: "yes"

- name: Save the plan without applying it
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ yard }}"
    save_plan: plan.json
  check_mode: true

- name: Apply the saved plan if it is still valid
  stockyard.container_hosts.yard:
    state: present
    declaration: "{{ yard }}"
    apply_plan: plan.json

- name: Delete all hosts and keep the templates
  stockyard.container_hosts.yard:
    state: absent

- name: Delete all hosts, templates and pools of a pipeline
  stockyard.container_hosts.yard:
    owner: pipeline-42
    state: absent
    templates: true
"""

RETURN = r"""
hosts:
  description:
    - With O(state=present) the names of the hosts of all declared fleets.
    - With O(state=absent) the names of the remaining hosts. The list is empty after a success
      outside check mode.
  returned: success
  type: list
  elements: str
  sample: []
members:
  description:
    - The hosts of all declared fleets. Each item has the keys that
      M(stockyard.container_hosts.fleet) returns.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: []
retained:
  description: The objects that were not deleted with the yard, which are the volumes.
  returned: when O(state=absent) and objects remain
  type: list
  elements: str
  sample: [volume results]
plan:
  description:
    - The actions that were taken, or in check mode the actions that would be taken. Empty if
      nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["delete host web-1: the yard is being torn down"]
progress:
  description: The stages that ended, in the order in which they were shown.
  returned: always
  type: list
  elements: str
  sample: ["host web-1: deleted"]
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: Busy
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: stockyard.default.fleet.web
    cause:
      description: The cause. It can be empty.
      type: str
      sample: ""
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: wait, then run again
"""

from typing import Any

from ..module_utils._ansible import (
    checked,
    mutating_module,
    run_change,
)
from ..module_utils.stockyard.declarations.yard import (
    DECLARATION,
    declaration,
)
from ..module_utils.stockyard.result import Result
from ..module_utils.stockyard.yard import Yard

OPTIONS = {
    "state": {"type": "str", "choices": ["present", "suspended", "absent"], "required": True},
    "declaration": {"type": "dict"},
    **DECLARATION,
    "rebuild": {"type": "bool", "default": False},
    "local_hypervisor": {"type": "str"},
    "save_plan": {"type": "path"},
    "apply_plan": {"type": "path"},
    "templates": {"type": "bool", "default": False},
    "volumes": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}


def change(yard: Yard, params: dict[str, Any], mode: dict[str, Any]) -> Result[Any]:
    """Converge, suspend or delete a yard as the task declares."""
    if params["state"] == "suspended":
        return yard.suspend(**mode)
    if params["state"] == "absent":
        return yard.teardown(templates=params["templates"], volumes=params["volumes"], **mode)
    return yard.apply(
        declaration(params, checked),
        check=mode["check"],
        save_plan=params["save_plan"] or "",
        apply_plan=params["apply_plan"] or "",
    )


def main() -> None:
    """Run the module."""
    module = mutating_module(OPTIONS, required_if=[("state", "present", ["declaration"])])

    def results(hosts: list[dict[str, Any]]) -> dict[str, Any]:
        members = {"members": hosts} if module.params["state"] == "present" else {}
        return {"hosts": [host["name"] for host in hosts], **members}

    run_change(module, change, results)


if __name__ == "__main__":
    main()
