# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a fleet: which hosts it has, and how they are replaced."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  count:
    description:
      - How many hosts it is to have, by default one. Mutually exclusive with O(names).
    type: int
  min_ready:
    description:
      - How many hosts it is to have at least that nobody leased. With every lease another is made by the next run.
      - For hosts that are counted, on one hypervisor.
    type: int
    default: 0
  max:
    description:
      - How many hosts it may have in all, leased ones too. V(0) is any number.
      - Leased hosts are never taken away for it. Where it leaves no room for a new host beside an old one, hosts are
        replaced with one missing.
    type: int
    default: 0
  names:
    description:
      - The names of its hosts, instead of a number of them. A host is then replaced under its own name.
    type: list
    elements: str
  update:
    description:
      - How hosts are replaced that are no longer as declared.
    type: dict
    suboptions:
      strategy:
        description:
          - V(rolling) replaces a few hosts at a time, and stops when a new one does not get healthy.
          - V(recreate) replaces all at once, each under its own name.
          - V(on_release) is V(rolling) without O(update.grace). A host that somebody holds is replaced when it is
            released, whatever the strategy is.
        type: str
        choices: [rolling, recreate, on_release]
        default: rolling
      max_surge:
        description:
          - How many hosts there may be beside the declared ones while others are replaced. New hosts then have names
            that are free, such as C(web-4) in a fleet of three.
          - By default one, or none where a new host cannot be beside the old one (O(names), O(volumes), or O(bind) with
            O(ports)).
        type: int
      max_unavailable:
        description:
          - How many of the declared hosts may be missing while they are replaced.
          - By default none, or one where O(update.max_surge) comes to none.
        type: int
      grace:
        description:
          - Seconds for which running containers are waited for before their host is destroyed.
          - It is for hosts that are replaced, or too many. O(state=absent) does not wait.
        type: float
        default: 30.0
      hook:
        description:
          - A command, as a list, that is run where the module runs before a host is replaced or taken away. When it
            fails the host stays, and the rollout stops.
          - It finds the host in its environment, in E(STOCKYARD_HOST), E(STOCKYARD_FLEET), E(STOCKYARD_TENANT),
            E(STOCKYARD_OWNER), E(STOCKYARD_UUID), E(STOCKYARD_ADDRESS), E(STOCKYARD_SSH_USER),
            E(STOCKYARD_SSH_PORT), E(STOCKYARD_SSH_KEY), E(STOCKYARD_KNOWN_HOSTS), and E(DOCKER_HOST),
            E(DOCKER_CERT_PATH) and E(DOCKER_TLS_VERIFY).
        type: list
        elements: str
        default: []
  recreate:
    description:
      - V(always) makes every host of the fleet anew in every run, for hosts that are used once.
    type: str
    choices: [auto, always]
    default: auto
  hypervisors:
    description:
      - The hypervisors that the fleet's hosts are on, each by a name. A run works out the share of the one that it is
        on (O(here)) and makes that. It never touches, nor looks at, the others.
      - Counted hosts are then called after the fleet and the hypervisor, as in C(web-east-1). O(names) are dealt out in
        their order.
      - The list decides alone. A hypervisor that does not answer keeps its share until the list says that it is dead.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - Its name, at most 16 lower-case letters, digits and hyphens.
        type: str
        required: true
      state:
        description:
          - V(active) has its share.
          - V(evacuated) and V(dead) have none. The other hypervisors take it, and a run on this one takes its hosts
            away. Run the others first.
        type: str
        choices: [active, evacuated, dead]
        default: active
      max:
        description:
          - How many hosts of the fleet it takes at most.
        type: int
  placement:
    description:
      - V(spread) gives each hypervisor the same number of hosts, the first ones one more where that does not come out
        even. V(pack) fills one up to its C(max) before the next.
    type: str
    choices: [spread, pack]
    default: spread
  here:
    description:
      - The name of the hypervisor that this run is on, among O(hypervisors).
    type: str
    default: ''
  on_full:
    description:
      - What becomes of a run that the pool has not room enough for. The run fails in either case, and says what there
        was no room for.
      - V(refuse) changes nothing.
      - V(fill) first makes as many of the missing hosts as there is room for.
    type: str
    choices: [refuse, fill]
    default: refuse
  replace_on_labels:
    description:
      - Keys of O(labels) that replace a host when they change. All others are changed where the host is.
    type: list
    elements: str
    default: []
"""
