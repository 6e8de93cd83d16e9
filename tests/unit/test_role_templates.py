# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles' templates are ones: a syntax error in one shows only where it is rendered, on a real
host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).parents[2] / "roles"
TEMPLATES = sorted(str(path.relative_to(ROLES)) for path in ROLES.glob("*/templates/**/*.j2"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_role_template_is_valid_jinja(name: str) -> None:
    jinja2.Environment(autoescape=True).parse((ROLES / name).read_text(encoding="utf-8"))


def endpoint_unit() -> str:
    """Return the unit as Ansible renders it: newlines after tags are removed."""
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
    return environment.from_string(text).render(variables)


def test_unit_of_an_endpoint_has_one_line_for_its_command() -> None:
    lines = endpoint_unit().split("\n")
    assert lines[:2] == ["# Ansible managed", "[Unit]"]
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command == (
        "ExecStart=%h/.local/bin/stockyard endpoint serve --name doors --tenant default "
        '--hypervisor "memory:///a%%20b" --storage "/a \\"b\\" $$c"'
    )
    assert lines[lines.index(command) + 1].startswith("#")


def serve_unit() -> str:
    """Return the unit of the daemon, rendered in the same way."""
    variables = {
        "serve_command": "%h/.local/bin/stockyard",
        "serve_environment_file": "/etc/x",
        "serve_interval": "10s",
        "serve_unix": "%t/stockyard/serve.sock",
        "serve_projects": "",
        "serve_listen": "127.0.0.1:2380",
        "serve_hypervisor": "memory:///a%20b",
        "serve_owner": "",
        "serve_storage": '/a "b" $c',
        "serve_pki_dir": "",
        "ansible_managed": "Ansible managed",
    }
    environment = jinja2.Environment(autoescape=False, trim_blocks=True)  # noqa: S701  # no HTML
    environment.globals["lookup"] = lambda _plugin, name: variables[name]
    text = (ROLES / "serve/templates/stockyard-serve.service.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(variables)


def test_unit_of_the_daemon_has_one_line_for_its_command() -> None:
    lines = serve_unit().split("\n")
    assert lines[:2] == ["# Ansible managed", "[Unit]"]
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command == (
        "ExecStart=%h/.local/bin/stockyard serve --yard - --interval 10s --unix "
        '"%t/stockyard/serve.sock" --listen "127.0.0.1:2380" --hypervisor "memory:///a%%20b" '
        '--storage "/a \\"b\\" $$c"'
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("is_example", [True, False])
@pytest.mark.parametrize("service", ["endpoint", "serve"])
def test_systemd_accepts_the_unit_of_a_service(
    tmp_path: Path, service: str, is_example: bool
) -> None:
    example = ROLES.parent / f"examples/systemd/stockyard-{service}.service"
    rendered = endpoint_unit() if service == "endpoint" else serve_unit()
    program, unit = tmp_path / ".local/bin/stockyard", tmp_path / example.name
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit.write_text(example.read_text(encoding="utf-8") if is_example else rendered)
    result = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
