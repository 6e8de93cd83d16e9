# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule with a memory hypervisor: it creates and deletes hosts. No guest answers here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from tests.helpers.molecule_checkout import CHECKOUT, Checkout

from .conftest import Controller

OWN = "molecule"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("molecule")


def names(root: Path) -> list[str]:
    with Yard(f"memory://{root}/yard", owner=OWN, pki_dir=str(root / "pki")) as yard:
        return [host.name for host in yard.hosts.list()]


def checkout(root: Path, place: str, **more: Any) -> Checkout:
    (root / place).mkdir()
    variables = {
        "yard_hypervisor": f"memory://{root}/yard",
        "yard_pki_dir": str(root / "pki"),
        **more,
    }
    return Checkout(root / place, variables)


def test_the_life_of_a_scenario(root: Path) -> None:
    """Each command of molecule runs twice, and other playbooks use its hosts in between."""
    own_checkout = checkout(root, "mine")
    own_checkout.declare(mine_variables(root), ("debian", "Db_1.example"))
    output = own_checkout.ok("create")
    assert "changed=2" in output
    created_names = names(root)
    assert [name.partition("-")[2].partition("-")[2] for name in created_names] == [
        "db-1-example",
        "debian",
    ]
    (inventory_file,) = own_checkout.home.rglob("molecule.stockyard.yml")
    result = subprocess.run(
        ["ansible-inventory", "-i", inventory_file, "--list"],
        env=own_checkout.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(result.stdout)["_meta"]["hostvars"]
    assert {name: host_facts["stockyard_name"] for name, host_facts in facts.items()} == dict(
        zip(("Db_1.example", "debian"), created_names, strict=True)
    )
    with Yard(f"memory://{root}/yard", owner=OWN, pki_dir=str(root / "pki")) as yard:
        host = yard.hosts.list()[0]
    assert host.labels == {"molecule": "role_sample"}
    assert host.expires - host.created == 7200
    own_checkout.ok("destroy")
    assert names(root) == []
    own_checkout.ok("destroy")


def mine_variables(root: Path) -> dict[str, Any]:
    return {"yard_hypervisor": f"memory://{root}/yard", "yard_pki_dir": str(root / "pki")}


def test_checkouts_of_one_name_keep_their_own_hosts(root: Path) -> None:
    """Molecule keeps the state of both in one place, as they have one user and one name."""
    first, second = checkout(root, "first"), checkout(root, "second")
    second.environment["HOME"] = first.environment["HOME"]
    first.ok("create")
    before = names(root)
    # As molecule sees it, they are created already.
    second.ok("reset")
    second.ok("create")
    assert len(names(root)) == 2
    second.ok("destroy")
    assert set(names(root)) <= set(before)
    with Yard(f"memory://{root}/yard", owner=OWN, pki_dir=str(root / "pki")) as yard:
        yard.teardown()


@pytest.mark.parametrize(
    ("playbook", "environment", "output"),
    [
        ("molecule_create", {}, "This playbook needs molecule"),
        ("molecule_destroy", {}, "This playbook needs MOLECULE_EPHEMERAL_DIRECTORY"),
        (
            "molecule_create",
            {"MOLECULE_EPHEMERAL_DIRECTORY": "."},
            "hosts in the group molecule of the scenario's inventory",
        ),
    ],
)
def test_invalid_scenario_is_refused(
    controller: Controller, playbook: str, environment: dict[str, str], output: str
) -> None:
    surrounding = {**controller.environment, **environment}
    line = ["ansible-playbook", f"stockyard.container_hosts.{playbook}"]
    result = subprocess.run(
        line,
        cwd=controller.home,
        env=surrounding,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode != 0
    assert output in " ".join(result.stdout.split())
    assert not controller.state.exists()


def declare_group(
    own_checkout: Checkout, variables: dict[str, Any], hosts: dict[str, dict[str, Any]]
) -> None:
    """Write an inventory with variables of the group molecule and of its hosts."""
    group = {"hosts": hosts, "vars": variables}
    all_hosts = {"vars": {"yard_owner": "other", "ansible_python_interpreter": "/usr/bin/python3"}}
    (own_checkout.role / "molecule" / "default" / "inventory" / "hosts.yml").write_text(
        json.dumps({"molecule": group, "all": all_hosts})
    )


def test_variables_of_the_group_molecule_have_an_effect(root: Path) -> None:
    """They win over those of the group all, as everywhere in Ansible, and can be templates."""
    own_checkout = checkout(root, "group")
    place = {"place": str(root), "yard_hypervisor": "memory://{{ place }}/yard"}
    keys = {"yard_pki_dir": "{{ place }}/pki", "yard_owner": "own", "molecule_ttl": "1h"}
    declare_group(own_checkout, {**place, **keys}, {"debian": {}})
    own_checkout.ok("create")
    with Yard(f"memory://{root}/yard", owner="own", pki_dir=str(root / "pki")) as yard:
        (host,) = yard.hosts.list()
        assert host.expires - host.created == 3600
        own_checkout.ok("destroy")
        assert yard.hosts.list() == ()
        yard.teardown(templates=True)


def test_template_of_a_yard_is_used_and_never_changed(root: Path) -> None:
    """The yard declares its template with options that the scenario does not have."""
    own_checkout = checkout(root, "shared")
    variables = {**mine_variables(root), "yard_owner": "plant"}
    with Yard(f"memory://{root}/yard", owner="plant", pki_dir=str(root / "pki")) as yard:
        own_checkout.declare({**variables, "molecule_existing_template": "base"})
        code, output = own_checkout.molecule("create")
        assert code != 0
        assert "template base" in output
        assert yard.hosts.list() == ()
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("tree",))))
        yard.fleets.apply(FleetSpec("web", "base", count=1))
        before = yard.templates.list()
        own_checkout.ok("create")
        assert yard.templates.list() == before
        (generation,) = {host.generation for host in yard.hosts.list()}
        assert len(yard.hosts.list()) == 2
        assert generation == before[0].generation
        own_checkout.ok("destroy")
        assert [host.fleet for host in yard.hosts.list()] == ["web"]
        assert yard.templates.list() == before
        own_checkout.declare(
            {**variables, "molecule_existing_template": "base", "molecule_template": {}}
        )
        code, output = own_checkout.molecule("create")
        assert code != 0
        assert "Set one of them." in " ".join(output.split())
        yard.teardown(templates=True)


def test_variables_that_differ_among_the_hosts_are_refused(root: Path) -> None:
    own_checkout = checkout(root, "differ")
    hosts = {"debian": {"molecule_ttl": "1h"}, "other": {"yard_owner": "x"}, "third": {}}
    declare_group(own_checkout, mine_variables(root), hosts)
    code, output = own_checkout.molecule("create")
    assert code != 0
    assert "molecule_ttl, yard_owner differ among the hosts" in " ".join(output.split())
    assert names(root) == []


def test_two_names_that_become_one_are_refused(root: Path) -> None:
    clash = checkout(root, "clash")
    clash.declare(mine_variables(root), ("db_1", "db.1"))
    code, output = clash.molecule("create")
    assert code != 0
    assert "The letters and digits of their names must differ" in " ".join(output.split())
    assert names(root) == []


def test_a_scenario_takes_five_lines() -> None:
    """That is what the page on molecule promises: one import in each of the two playbooks."""
    for name in ("create", "destroy"):
        text = (
            CHECKOUT / "examples" / "role_sample" / "molecule" / "default" / f"{name}.yml"
        ).read_text()
        lines = [
            line for line in text.splitlines() if line.strip() and not line.startswith(("#", "---"))
        ]
        assert len(lines) == 2


@pytest.mark.parametrize("role", ["yard", "endpoint", "serve"])
def test_the_scenario_of_a_role_that_needs_no_guest(role: str, tmp_path: Path) -> None:
    own_checkout = Checkout(tmp_path, {}, role, CHECKOUT / "roles" / role)
    shutil.copy(
        CHECKOUT / "roles" / role / "molecule" / "default" / "inventory" / "hosts.yml",
        own_checkout.role / "molecule" / "default" / "inventory",
    )
    output = own_checkout.ok("test")
    for stage in ("converge", "idempotence", "verify", "cleanup"):
        assert f"{stage}: Executed: Successful" in output, output


def test_every_role_has_a_scenario() -> None:
    for role in (CHECKOUT / "roles").iterdir():
        files = {path.name for path in (role / "molecule" / "default").iterdir()}
        assert {"molecule.yml", "converge.yml", "verify.yml", "inventory"} <= files, role.name
        assert (role / "meta" / "argument_specs.yml").is_file()
