# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard endpoint``."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard import EndpointSpec, Yard
from stockyard.cli import endpoint

from .conftest import Console

SERVE = ("endpoint", "serve")


def test_options_become_the_declaration_of_the_endpoint(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[EndpointSpec] = []
    monkeypatch.setattr(endpoint, "serve", lambda _yard, spec: specs.append(spec))
    assert console(*SERVE, "--unix", "/run/x.sock")[0] == 0
    assert (
        console(
            *SERVE,
            "--tls",
            "127.0.0.1:2300",
            "--name",
            "doors",
            "--image-host",
            "w",
            "--socket-in-containers",
        )[0]
        == 0
    )
    assert specs == [
        EndpointSpec(socket="/run/x.sock"),
        EndpointSpec("doors", "w", address="127.0.0.1", port=2300, socket_in_containers=True),
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--tls", "127.0.0.1:port"),
        ("--tls", "127.0.0.1:0"),
        ("--tls", "nowhere"),
        ("--unix", "x", "--name", "A B"),
    ],
)
def test_nonsense_is_refused(real: Yard, console: Console, options: tuple[str, ...]) -> None:
    assert console(*SERVE, *options)[0] == 2


def test_image_host_without_docker_is_reported(
    real: Yard, console: Console, tmp_path: Path
) -> None:
    socket = tmp_path / "endpoint.sock"
    code, _output, errors = console(*SERVE, "--unix", str(socket), "--image-host", "none")
    assert (code, "the host does not exist" in errors) == (1, True)
    code, _output, errors = console(*SERVE, "--unix", str(socket), "--image-host", "ci-1")
    assert (code, "Docker in the image host does not answer" in errors) == (1, True)
    assert not socket.exists()


def test_declared_endpoint_is_served_as_on_record(
    real: Yard, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[EndpointSpec] = []
    monkeypatch.setattr(endpoint, "serve", lambda _yard, spec: specs.append(spec))
    real.endpoints.apply(
        EndpointSpec("doors", "store", template="base", socket="/x.sock", socket_in_containers=True)
    )
    assert console(*SERVE, "--name", "doors")[0] == 0
    assert specs == [EndpointSpec("doors", "store", socket="/x.sock", socket_in_containers=True)]
    for option in (["--image-host", "images"], ["--spares", "2"], ["--socket-in-containers"]):
        code, _output, errors = console(*SERVE, "--name", "doors", *option)
        message = f"{option[0]} is part of the declaration of endpoint doors"
        assert (code, message in errors, len(specs)) == (2, True, 1)
    code, _output, errors = console(*SERVE, "--name", "other")
    assert (code, "set --unix or --tls" in errors) == (1, True)
