# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations in files, read without Ansible, and the commands that use them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stockyard import InvalidInput
from stockyard.declarations import file
from stockyard.declarations.file import DeclarationFile


def write(folder: Path, text: str) -> DeclarationFile:
    path = folder / "yard.yml"
    path.write_text(text)
    return DeclarationFile(path)


def test_connection_and_objects_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    declaration = write(
        tmp_path,
        "yard_owner: demo\nyard_pki_dir: ~/keys\nyard_validate_certs: 'no'\nyard_storage:\n"
        "other: {{ x }}\nyard_fleets: [{name: web}]\nyard_volumes: []\n".replace(
            "{{ x }}", "'{{ x }}'"
        ),
    )
    assert declaration.connection() == {
        "owner": "demo",
        "pki_dir": "/home/me/keys",
        "validate_certs": False,
    }
    assert declaration.lists() == {"fleets": [{"name": "web"}], "volumes": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("yard_ower: x", "yard_ower is not known"),
        ("yard: x", "yard is not known"),
        ("[a]", "the file is no mapping"),
        ("yard_owner: {a: b}", "yard_owner is no text"),
        ("yard_validate_certs: maybe", "yard_validate_certs is no boolean"),
        ("yard_owner: [", "the declaration is no valid YAML"),
        ("yard_owner: !odd x", "the declaration is no valid YAML"),
        ("yard_fleets: &a [*a]", "is nested too deeply, or contains itself"),
        ("other: &a {b: *a}", "is nested too deeply, or contains itself"),
        (f"yard_fleets: {'[' * 5000}", "is nested too deeply, or contains itself"),
        ("$ANSIBLE_VAULT;1.1;AES256\n33", "the file is encrypted with Ansible Vault"),
        ("yard_owner: '{{ x }}'", "contains a Jinja2 expression ({{ x }}), which only Ansible"),
        ("yard_password: !vault |\n  $ANSIBLE_VAULT;1.1\n  33", "yard_password is encrypted with"),
    ],
)
def test_value_that_cannot_be_used_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        write(tmp_path, text).connection()
    assert reason in str(caught.value)
    assert f"declaration {tmp_path}/yard.yml" in str(caught.value) or "YAML" in reason


def test_expression_in_an_object_is_refused_with_the_way_out(tmp_path: Path) -> None:
    declaration = write(tmp_path, "yard_fleets: [{name: web, labels: {'{% if a %}': b}}]")
    assert declaration.connection() == {}
    with pytest.raises(InvalidInput, match="yard_fleets contains a Jinja2 expression") as caught:
        declaration.lists()
    assert "run ansible-playbook stockyard.container_hosts.site" in caught.value.remedy


def test_unsafe_text_is_no_expression(tmp_path: Path) -> None:
    declaration = write(tmp_path, "yard_fleets: [{name: web, labels: {a: !unsafe '{{ b }}'}}]")
    assert declaration.lists() == {"fleets": [{"name": "web", "labels": {"a": "{{ b }}"}}]}


def test_value_from_elsewhere_needs_no_evaluation(tmp_path: Path) -> None:
    declaration = write(tmp_path, "yard_owner: me\nyard_volume_key: '{{ key }}'")
    assert declaration.connection(omitted={"volume_key"}) == {"owner": "me"}


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        DeclarationFile(tmp_path / "none").connection()


def test_variables_are_those_of_the_role(checkout: Path) -> None:
    specs = yaml.safe_load((checkout / "roles/yard/meta/argument_specs.yml").read_text())
    assert set(specs["argument_specs"]["main"]["options"]) == file.KNOWN
