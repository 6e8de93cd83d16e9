# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access information for users: complete, safe to paste, and without secrets."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, HostSpec, TemplateSpec, Yard
from stockyard.clock import Deadline
from stockyard.resources.hosts.access import context_command
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5PyObBkKWPqZLiQHfJ8gdhiGJmJUNt8WluiUp+fbmL me@home"


def test_host_information_contains_ssh_and_docker_access(yard: Yard, tmp_path: Path) -> None:
    (host,) = yard.fleets.apply(
        FleetSpec("ci", "base", count=1, host=HostSpec(ports=(8080,)), labels={"a": "b"})
    ).objects
    keys, address = tmp_path / "pki" / "stockyard" / "default", host.address
    assert host.ssh.host == address
    assert host.ssh.port == 2222
    assert host.ssh.user == "stockyard"
    assert host.ssh.known_hosts == str(keys / "known_hosts")
    assert host.ssh.private_key == str(keys / "ssh" / "id_ed25519")
    assert host.docker.endpoint == f"tcp://{address}:2376"
    assert host.docker.environment == {
        "DOCKER_HOST": f"tcp://{address}:2376",
        "DOCKER_CERT_PATH": str(keys / "client"),
        "DOCKER_TLS_VERIFY": "1",
    }
    assert (host.ports, host.labels, host.state, host.ready) == (
        (8080,),
        {"a": "b"},
        "running",
        True,
    )
    assert len(host.generation) == 12


def test_each_named_access_file_exists(yard: Yard) -> None:
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    client = Path(host.docker.environment["DOCKER_CERT_PATH"])
    named = [
        Path(host.ssh.known_hosts),
        Path(host.ssh.private_key),
        *(client / f"{n}.pem" for n in ("ca", "cert", "key")),
    ]
    assert [str(path) for path in named if not path.is_file()] == []


def test_where_keys_are_declared_the_operators_is_not_offered(yard: Yard) -> None:
    (host,) = yard.fleets.apply(
        FleetSpec("ci", "base", host=HostSpec(authorized_keys=(KEY,)))
    ).objects
    assert host.ssh.private_key == ""
    assert " -i " not in host.ssh.command


def test_printed_lines_are_quoted_for_any_directory(
    hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path
) -> None:
    odd = tmp_path / "a b,'$(touch x);\"c"
    with Yard(provider=hypervisor.as_provider(), clock=clock, pki_dir=str(odd)) as yard:
        yard.templates.apply(TemplateSpec("base"))
        (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    words = shlex.split(host.ssh.command)
    assert words[0] == "ssh"
    assert words[-1] == f"stockyard@{host.address}"
    understood = subprocess.run(
        [words[0], "-F", "/dev/null", "-G", *words[1:]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert f"userknownhostsfile {host.ssh.known_hosts}" in understood
    assert f"identityfile {host.ssh.private_key}" in understood
    assert "stricthostkeychecking true" in understood
    context = shlex.split(host.docker.context)
    assert context[:5] == ["docker", "context", "create", "ci-1", "--docker"]
    # Docker's client takes it for a line of CSV (pflag, StringToString).
    (fields,) = csv.reader([context[5]])
    assert (
        dict(field.split("=", 1) for field in fields)["cert"]
        == f"{odd}/stockyard/default/client/cert.pem"
    )
    script = host.docker.export + '; printf %s "$DOCKER_CERT_PATH"'
    result = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout == host.docker.environment["DOCKER_CERT_PATH"]
    assert not (tmp_path / "x").exists()


def test_a_context_names_all_three_files() -> None:
    words = shlex.split(context_command("ci-1", "tcp://127.64.0.1:2376", "/keys"))
    assert (
        words[5]
        == "host=tcp://127.64.0.1:2376,ca=/keys/ca.pem,cert=/keys/cert.pem,key=/keys/key.pem"
    )


def test_results_contain_no_secret(yard: Yard, tmp_path: Path) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    printed = str([yard.hosts.list(), yard.templates.list(), yard.fleets.list()])
    assert "PRIVATE" not in printed
    keys = tmp_path / "pki" / "stockyard" / "default"
    for secret in ("ca-key.pem", "client/key.pem", "ssh/id_ed25519"):
        body = (keys / secret).read_text().splitlines()[1]
        assert body not in printed


def test_results_are_plain_json(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    for info in (*yard.hosts.list(), *yard.templates.list(), *yard.fleets.list()):
        assert json.loads(json.dumps(info.to_dict())) == info.to_dict()


def test_fleet_information_summarizes_its_hosts(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    record = yard.context.provider.observe("stockyard").hosts[0].record
    yard.context.provider.stop(record, Deadline(5))
    (fleet_info,) = yard.fleets.list()
    assert (fleet_info.name, fleet_info.template, fleet_info.total, fleet_info.ready) == (
        "ci",
        "base",
        2,
        1,
    )
    assert fleet_info.hosts == ("ci-1", "ci-2")
    assert yard.fleets.list("other") == ()
    assert yard.fleets.list(name="other") == ()


@pytest.mark.parametrize("filters", [{"tenant": "x"}, {"fleet": "x"}, {"name": "x"}])
def test_hosts_are_filtered_by_the_request(yard: Yard, filters: dict[str, Any]) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    assert yard.hosts.list(**filters) == ()
    assert len(yard.hosts.list(tenant="default", fleet="ci")) == 2
