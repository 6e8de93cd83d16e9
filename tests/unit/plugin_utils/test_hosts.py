# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible is told of a host: whatever labels and paths hold."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import FleetSpec, TemplateSpec, Yard
from stockyard.views.inventory import lease_state
from tests.helpers.samples import host_record

from ..test_layers import PLUGINS


def loaded() -> ModuleType:
    """The module, which imports nothing of Ansible."""
    spec = importlib.util.spec_from_file_location("_hosts", PLUGINS / "plugin_utils" / "_hosts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hosts = loaded()
TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)


def entry(**changes: Any) -> dict[str, Any]:
    """A host as a listing has it."""
    return {
        "name": "web-1",
        "tenant": "default",
        "fleet": "web",
        "template": "docker",
        "generation": "5f3c6a1d2b9e",
        "pool": "",
        "labels": {},
        "phase": "ready",
        "state": "running",
        "ready": True,
        "expires": 0.0,
        "published": [],
        "lease": {"state": "free", "holder": "", "until": 0.0},
        "hypervisor": "here",
        "ssh": {
            "host": "127.64.0.1",
            "port": 2222,
            "user": "me",
            "private_key": "/k",
            "known_hosts": "/h",
        },
        "docker": {
            "endpoint": "tcp://127.64.0.1:2376",
            "ca": "/ca",
            "cert": "/cert",
            "key": "/key",
        },
        "agent": {"uri": "qemu:///session", "domain": "stockyard.default.web-1"},
        **changes,
    }


@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_groups_have_plain_names(labels: dict[str, str]) -> None:
    names = hosts.groups(entry(labels=labels), hosts.KINDS)
    assert all(re.fullmatch(r"[a-z]+_[A-Za-z0-9_]*", name) for name in names)
    # A host's name has no underscore, so none is called like a group.
    assert not any(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({}, "fleet_web"),
        ({}, "generation_docker_5f3c6a1d2b9e"),
        ({}, "lease_free"),
        ({}, "ready_yes"),
        ({"ready": False}, "ready_no"),
        ({"pool": "fast"}, "pool_fast"),
        ({"labels": {"a.b/c": ""}}, "label_a_b_c"),
        ({"labels": {"a": "b"}}, "label_a_b"),
    ],
)
def test_groups_of_a_host(changes: dict[str, Any], group: str) -> None:
    assert group in hosts.groups(entry(**changes), hosts.KINDS)


def test_a_host_of_no_fleet_is_in_no_fleets_group() -> None:
    assert hosts.groups(entry(fleet=""), ["fleet"]) == []


def test_the_guest_agent_needs_neither_address_nor_key() -> None:
    host_variables = hosts.variables(entry(), "guest_agent")
    reach = {k: v for k, v in host_variables.items() if k.startswith("ansible_")}
    assert reach == {
        "ansible_connection": "community.libvirt.libvirt_qemu",
        "ansible_host": "stockyard.default.web-1",
        "ansible_libvirt_uri": "qemu:///session",
    }


@pytest.mark.parametrize(
    "path", ["/a/b", "/a b/c", "/a'b", '/a"b', "/a%h", "/a\\b", "/ä ö", "/$(id)", "/a#b"]
)
def test_openssh_reads_the_path_that_is_meant(path: str) -> None:
    options = shlex.split(hosts.ssh_arguments(path, own_key=True))
    command = ["ssh", "-F", "/dev/null", "-G", *options, "somewhere"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"userknownhostsfile {path}" in output.splitlines()


def test_a_listing_reads_the_hypervisor_once(yard: Yard, hypervisor: Any) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=3))
    hypervisor.calls.clear()
    assert [h["name"] for h in yard.listing().hosts] == ["ci-1", "ci-2", "ci-3"]
    assert hypervisor.calls == {"observe": 1}


def test_hypervisors_of_one_tenant_keep_their_own_pins(tmp_path: Any) -> None:
    for name in ("a", "b"):
        with Yard(f"memory://{tmp_path}/{name}", pki_dir=str(tmp_path / "pki")) as yard:
            yard.templates.apply(TemplateSpec("base"))
            yard.fleets.apply(FleetSpec("ci", "base"))
            yard.listing()
    pinned = list((tmp_path / "pki" / "stockyard" / "default" / "known_hosts.d").iterdir())
    assert sorted(len(path.read_text().splitlines()) for path in pinned) == [1, 1]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "free"),
        ({"fleet": ""}, "none"),
        ({"expires": 5.0}, "over"),
        ({"expires": 50.0}, "free"),
    ],
)
def test_lease_states(changes: dict[str, Any], state: str) -> None:
    assert lease_state(host_record(**changes), 10.0) == state


def test_cache_of_an_inventory_contains_no_secret() -> None:
    secrets = ("password", "ca_private_key", "volume_key")
    options = dict.fromkeys(secrets, "canary")
    options |= {"hypervisor": "vsphere://v/d/c", "username": "me"}
    cached = hosts.cacheable([options, {"hypervisor": "qemu:///session", "password": "canary"}])
    assert cached == [
        {"hypervisor": "vsphere://v/d/c", "username": "me"},
        {"hypervisor": "qemu:///session"},
    ]
