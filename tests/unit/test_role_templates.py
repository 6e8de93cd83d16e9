# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles' templates are ones: a syntax error in one shows only where it is rendered, on a real
host.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).parents[2] / "roles"
TEMPLATES = sorted(str(path.relative_to(ROLES)) for path in ROLES.glob("*/templates/**/*.j2"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_role_template_is_valid_jinja(name: str) -> None:
    jinja2.Environment(autoescape=True).parse((ROLES / name).read_text(encoding="utf-8"))


def test_unit_of_an_endpoint_has_one_line_for_its_command() -> None:
    """As Ansible renders it: newlines after tags are removed."""
    variables = {
        "endpoint_name": "doors",
        "endpoint_tenant": "default",
        "endpoint_command": "%h/.local/bin/stockyard",
        "endpoint_environment_file": "/etc/x",
        "endpoint_hypervisor": "memory:///a%20b",
        "endpoint_owner": "",
        "endpoint_storage": '/a "b" $c',
        "endpoint_pki_dir": "",
        "ansible_managed": "Ansible managed",
    }
    environment = jinja2.Environment(autoescape=False, trim_blocks=True)  # noqa: S701  # no HTML
    environment.globals["lookup"] = lambda _plugin, name: variables[name]
    text = (ROLES / "endpoint/templates/stockyard-endpoint.service.j2").read_text(encoding="utf-8")
    lines = environment.from_string(text).render(variables).split("\n")
    assert lines[:2] == ["# Ansible managed", "[Unit]"]
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command == (
        "ExecStart=%h/.local/bin/stockyard endpoint serve --name doors --tenant default "
        '--hypervisor "memory:///a%%20b" --storage "/a \\"b\\" $$c"'
    )
    assert lines[lines.index(command) + 1].startswith("#")
