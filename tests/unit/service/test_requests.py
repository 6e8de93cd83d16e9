# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of a daemon to requests of projects."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, Yard
from stockyard.resources.leases import lease_lifecycle
from stockyard.service import projects
from stockyard.service.http_server import HttpAnswer, HttpRequest
from stockyard.service.projects import Project, Projects
from stockyard.service.requests import Requests
from stockyard.service.status import Status

TOKEN = projects.new_token()
WEB = Project("web", projects.digest_of(TOKEN), fleets=("ci",))
JOB = {"fleet": "ci", "holder": "job-1"}


class Service:
    """The requests of a yard with one host and one project."""

    def __init__(self, yard: Yard, path: Path) -> None:
        self.path = path
        self.log: list[str] = []
        projects.write(path, Projects((WEB,)))
        status = Status(yard.context.clock, self.log.append)
        self.requests = Requests(
            lambda: yard.context, path, status, threading.Event(), lambda: None
        )

    def list(self, token: str) -> HttpAnswer:
        """Return the answer to a request for the leases of a project."""
        headers = {"authorization": f"Bearer {token}"}
        return self.requests._answer_counted(HttpRequest("GET", "/v1/leases", headers, b""), False)

    def lease(self, fields: dict[str, Any]) -> HttpAnswer:
        """Return the answer to a request for a lease."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        request = HttpRequest("POST", "/v1/leases", headers, json.dumps(fields).encode())
        return self.requests._answer_counted(request, False)


@pytest.fixture
def service(yard: Yard, tmp_path: Path) -> Service:
    """The requests of a yard with one host and one project."""
    yard.fleets.apply(FleetSpec("ci", "base", count=1))
    return Service(yard, tmp_path / "projects.json")


def test_project_that_is_removed_during_its_wait_gets_no_host(
    service: Service, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_host = lease_lifecycle._claim_host

    def remove(*arguments: Any) -> Any:
        projects.write(service.path, Projects())
        return claim_host(*arguments)

    monkeypatch.setattr(lease_lifecycle, "_claim_host", remove)
    answer = service.lease(JOB)
    assert answer.status == 403
    assert b"PRIVATE KEY" not in answer.body
    assert yard.leases.list() == ()


def test_project_that_stays_gets_a_host(service: Service, yard: Yard) -> None:
    assert service.lease(JOB).status == 201
    assert [lease.holder for lease in yard.leases.list()] == ["web/job-1"]


def test_unforeseen_error_is_answered_and_logged(
    service: Service, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise PermissionError("/secret/key.pem")

    monkeypatch.setattr("stockyard.clients.leases.LeasesClient.ensure", fail)
    answer = service.lease(JOB)
    assert answer.status == 500
    assert b"its log contains the reason" in answer.body
    assert b"secret" not in answer.body
    assert service.log == ["a request failed: PermissionError: /secret/key.pem"]


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e300])
@pytest.mark.parametrize("field", ["duration", "wait"])
def test_number_without_bounds_is_refused(service: Service, field: str, number: float) -> None:
    answer = service.lease({**JOB, field: number})
    assert answer.status == 403
    assert b"is not a number of seconds" in answer.body


def test_project_cannot_have_all_requests(
    service: Service, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_token = projects.new_token()
    api = Project("api", projects.digest_of(other_token), fleets=("ci",))
    projects.write(service.path, Projects((WEB, api)))
    monkeypatch.setattr("stockyard.service.requests.MOST_OF_PROJECT", 1)
    claim_host = lease_lifecycle._claim_host
    answers: list[HttpAnswer] = []

    def ask(*arguments: Any) -> Any:
        monkeypatch.setattr(lease_lifecycle, "_claim_host", claim_host)
        answers.extend(service.list(token) for token in (TOKEN, other_token))
        return claim_host(*arguments)

    monkeypatch.setattr(lease_lifecycle, "_claim_host", ask)
    assert service.lease(JOB).status == 201
    assert [answer.status for answer in answers] == [409, 200]
    assert b"the project has 1 open requests" in answers[0].body
    # A request that has ended does not count.
    assert service.list(TOKEN).status == 200
