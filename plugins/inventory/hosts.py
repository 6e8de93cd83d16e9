# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: List the hosts of yards as an inventory
version_added: 0.1.0
description:
  - Lists every host of one or more yards, with the connection parameters for SSH and for Docker's
    API.
  - Each hypervisor is read once, independent of the number of its hosts.
  - SSH checks the host keys that are recorded on the hypervisor, and settings of the Ansible
    controller cannot disable this check. Reading the inventory writes the keys to a file in
    O(pki_dir). Nothing else changes.
  - The name of the inventory file must be C(stockyard.yml) or C(stockyard.yaml), or end in
    C(.stockyard.yml) or C(.stockyard.yaml).
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - Python 3.11 or later
  - cryptography 42 or later
  - jinja2 3.1 or later
  - libvirt-python 9.0 or later, for V(qemu:///session) and V(qemu:///system)
  - pyvmomi 8.0.3 or later, for V(vsphere://VCENTER/DATACENTER/CLUSTER)
options:
  plugin:
    description: The name of this plugin. It marks the file as an inventory of this plugin.
    type: str
    required: true
    choices: [stockyard.container_hosts.hosts]
  hypervisors:
    description:
      - The hypervisors, if there are several. Each item can have its own O(hypervisor), O(owner),
        O(storage), O(username), O(password), O(validate_certs), O(ca_path) and O(pki_dir). The
        options of the file are the defaults.
      - C(name) is the name of the hypervisor in the inventory. By default the URI.
    type: list
    elements: dict
    default: []
  hypervisor:
    description: The URI of the hypervisor.
    type: str
    default: qemu:///session
    env:
      - name: STOCKYARD_HYPERVISOR
  owner:
    description: The owner of the yard.
    type: str
    default: stockyard
    env:
      - name: STOCKYARD_OWNER
  storage:
    description: The directory or the datastore of the yard. See M(stockyard.container_hosts.fleet).
    type: str
  username:
    description: The user for the login to vCenter.
    type: str
    env:
      - name: VMWARE_USER
  password:
    description:
      - The password of O(username). It can be a template, such as a lookup. The inventory does not
        contain it.
    type: str
    env:
      - name: VMWARE_PASSWORD
  validate_certs:
    description: Whether to validate the certificate of vCenter.
    type: bool
    default: true
    env:
      - name: VMWARE_VALIDATE_CERTS
  ca_path:
    description: The authorities to trust in addition to the system's.
    type: path
    env:
      - name: VMWARE_CA_PATH
  pki_dir:
    description:
      - The directory for keys and certificates on the Ansible controller. By default
        C(~/.config/stockyard).
    type: str
  connection:
    description:
      - The connection from Ansible to the hosts. V(ssh) uses the network.
      - V(guest_agent) uses the agent in the guest, through the connection plugin
        P(community.libvirt.libvirt_qemu#connection). It needs no network and no key, and works as
        root. It is available only for hosts of libvirt on the Ansible controller itself.
    type: str
    choices: [ssh, guest_agent]
    default: ssh
  fleets:
    description: Return only hosts of these fleets. By default all hosts.
    type: list
    elements: str
    default: []
  tenants:
    description: Return only hosts of these tenants. By default all hosts.
    type: list
    elements: str
    default: []
  hostname:
    description:
      - A Jinja expression for the name of a host in the inventory. It can use the variables of the
        host.
      - If two hosts get the same name, the inventory fails. Hosts of several tenants or hypervisors
        may need a longer name.
    type: str
    default: stockyard_name
  group_by:
    description:
      - The properties by which hosts are grouped. The name of a group begins with the property, as
        in C(fleet_web), C(template_docker), C(generation_docker_5f3c6a1d2b9e), C(pool_batch),
        C(label_stage_test), C(lease_free), C(phase_ready) and C(ready_yes).
      - Characters other than letters and digits become underscores.
    type: list
    elements: str
    choices: [fleet, template, generation, pool, label, lease, phase, ready, tenant, hypervisor]
    default: [fleet, template, generation, pool, label, lease, phase, ready]
  on_error:
    description:
      - Action to take when a hypervisor cannot be read. V(fail) fails without an inventory.
      - V(warn) returns the hosts of the other hypervisors with a warning. The variable
        C(stockyard_missing) of all hosts lists the missing hypervisors. Such an inventory is not
        cached. If no hypervisor can be read, the inventory fails.
    type: str
    choices: [fail, warn]
    default: fail
notes:
  - When an inventory fails, Ansible prints a warning and continues with its other sources. Set
    C(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) to stop instead.
"""

EXAMPLES = r"""
---
# web.stockyard.yml: the hosts of your own session
plugin: stockyard.container_hosts.hosts

---
# Two hypervisors. The longer names keep hosts with the same name in both yards apart.
plugin: stockyard.container_hosts.hosts
hypervisors:
  - name: here
    hypervisor: qemu:///session
  - name: vcenter
    hypervisor: vsphere://vcenter.example.org/dc1/cluster1
    username: ansible
    password: "{{ lookup('ansible.builtin.env', 'VCENTER_PASSWORD') }}"
hostname: stockyard_name ~ '.' ~ stockyard_hypervisor
on_error: warn
group_by: [fleet, hypervisor]
keyed_groups:
  - key: stockyard_labels.stage
    prefix: stage
compose:
  docker_host: stockyard_docker.docker_host
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.errors import (
    StockyardError,
)
from ansible_collections.stockyard.container_hosts.plugins.module_utils.stockyard.escaping import (
    one_line,
)
from ansible_collections.stockyard.container_hosts.plugins.plugin_utils._hosts import (
    Entry,
    cacheable,
    groups,
    variables,
)
from ansible_collections.stockyard.container_hosts.plugins.plugin_utils._trust import marked
from ansible_collections.stockyard.container_hosts.plugins.plugin_utils._yards import (
    OWN,
    listing,
    yards,
)

AT_ONCE = 8


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Inventory of the hosts of one or more yards."""

    NAME = "stockyard.container_hosts.hosts"

    def verify_file(self, path: str) -> bool:
        """Return whether the name of a file marks it as an inventory of this plugin."""
        return super().verify_file(path) and path.endswith(("stockyard.yml", "stockyard.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts to the inventory."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        yard_options = self._wanted()
        self._names: set[str] = set()
        entries, missing = self._entries(yard_options, path, cache)
        if missing:
            self.inventory.set_variable("all", "stockyard_missing", missing)
        for entry in entries:
            self._add(entry)

    def _wanted(self) -> list[dict[str, Any]]:
        """Return the options of each hypervisor."""
        defaults = {name: self._templated(self.get_option(name)) for name in OWN}
        items = [self._templated(item) for item in self.get_option("hypervisors")] or [{}]
        try:
            return yards(defaults, items)
        except StockyardError as error:
            raise AnsibleParserError(str(error)) from error

    def _templated(self, value: Any) -> Any:
        return self.templar.template(value) if value else value

    def _entries(
        self, yard_options: list[dict[str, Any]], path: str, cache: bool
    ) -> tuple[list[Entry], list[str]]:
        """Return all hosts, cached or read, and the names of unreadable hypervisors."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        # The cache contains the options, so that a changed file is read again.
        cache_options = cacheable(yard_options)
        used = self.get_option("cache")
        if (
            used
            and cache
            and isinstance(cached := self._cache.get(key), dict)
            and cached.get("asked") == cache_options
        ):
            return cached["hosts"], []
        entries, missing = self._read(yard_options)
        if used and not missing:
            self._cache[key] = {"asked": cache_options, "hosts": entries}
        return entries, missing

    def _read(self, yard_options: list[dict[str, Any]]) -> tuple[list[Entry], list[str]]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(listing, yard_options))
        failed = {str(answer) for answer in answers if isinstance(answer, StockyardError)}
        if failed and (self.get_option("on_error") == "fail" or len(failed) == len(answers)):
            raise AnsibleParserError("; ".join(sorted(failed)))
        return list(self._told(yard_options, answers)), [
            options["name"]
            for options, answer in zip(yard_options, answers, strict=True)
            if isinstance(answer, StockyardError)
        ]

    def _told(self, yard_options: list[dict[str, Any]], answers: list[Any]) -> Iterator[Entry]:
        """Yield the hosts of all answers, and warn of unreadable hypervisors and objects."""
        for options, answer in zip(yard_options, answers, strict=True):
            if isinstance(answer, StockyardError):
                self.display.warning(
                    one_line(f"The hosts of {options['name']} are missing: {answer}")
                )
                continue
            for unreadable in answer.unreadable:
                self.display.warning(
                    one_line(
                        f"{unreadable.name} on {options['name']} is left out: {unreadable.reason}"
                    )
                )
            yield from ({**entry, "hypervisor": options["name"]} for entry in answer.hosts)

    def _add(self, entry: Entry) -> None:
        for option, part in (("fleets", "fleet"), ("tenants", "tenant")):
            if (selected := self.get_option(option)) and entry[part] not in selected:
                return
        connection = self.get_option("connection")
        if connection == "guest_agent" and not entry["agent"]:
            raise AnsibleParserError(
                f"Host {entry['name']} on {entry['hypervisor']} has no guest agent that Ansible "
                f"could use. Remedy: set "
                "connection to ssh, or put that hypervisor into another file."
            )
        values = marked(variables(entry, connection))
        name = self._name(values)
        self.inventory.add_host(name)
        for variable, value in values.items():
            self.inventory.set_variable(name, variable, value)
        for group in groups(entry, self.get_option("group_by")):
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
        self._construct(name, values)

    def _name(self, values: dict[str, Any]) -> str:
        rule = self.get_option("hostname")
        try:
            name = str(values[rule] if rule == "stockyard_name" else self._compose(rule, values))
        except AnsibleError as error:
            raise AnsibleParserError(f"hostname: {error}") from error
        if not name or name in self._names:
            raise AnsibleParserError(
                f"Two hosts would be called {name!a}, one of them on "
                f"{values['stockyard_hypervisor']}. Remedy: set the "
                "option hostname, such as: stockyard_name ~ '.' ~ stockyard_tenant ~ '.' ~ "
                "stockyard_hypervisor"
            )
        self._names.add(name)
        return name

    def _construct(self, name: str, values: dict[str, Any]) -> None:
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), values, name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), values, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), values, name, strict)
