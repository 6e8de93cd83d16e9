# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""act runs a workflow of GitHub Actions on a leased host, as docs/leases.md shows.

With STOCKYARD_ENDPOINT, the workflow runs on the Docker at this address.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import FleetSpec
from tests.helpers.docker_clients import DockerClients

from . import endpoint_clients
from .endpoint_clients import ADDRESS, Docker, run_workflow

clients, client_image = endpoint_clients.clients, endpoint_clients.client_image
images, latest = endpoint_clients.images, endpoint_clients.latest
TLS = ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
pytestmark = [pytest.mark.real, pytest.mark.full]


@pytest.fixture(scope="module")
def environment(request: pytest.FixtureRequest, clients: DockerClients) -> Iterator[dict[str, str]]:
    """The environment that ``lease exec`` gives to a command."""
    inherited = {"PATH": os.environ["PATH"], "HOME": str(clients.home)}
    if address := os.environ.get(ADDRESS):
        tls = {name: os.environ[name] for name in TLS if name in os.environ}
        yield inherited | tls | {"DOCKER_HOST": address}
        return
    yard, template = (request.getfixturevalue(name) for name in ("yard", "template"))
    yard.fleets.apply(FleetSpec("workflows", template.name, count=1))
    try:
        with yard.leases.acquire("workflows", holder="act", duration=1800) as lease:
            yield inherited | lease.environment
    finally:
        yard.fleets.delete("workflows")


def test_act_runs_a_workflow_on_a_leased_host(
    latest: Docker, clients: DockerClients, client_image: str, tmp_path: Path
) -> None:
    run_workflow(latest, clients, client_image, tmp_path)
