# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of a GitLab job reach the services of the job on a real guest by their names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import FleetSpec, HostInfo, TemplateInfo, Yard

from .conftest import OWNER, WORK, Docker

pytestmark = [pytest.mark.real, pytest.mark.full]
FLEET = FleetSpec("gitlab", "docker", count=1, max=1)
WEB = "mkdir /w; echo page of $NAME > /w/index.html; exec httpd -f -p 80 -h /w"


@pytest.fixture
def host(yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes) -> Iterator[HostInfo]:
    """The only host of the fleet, with the image of the service."""
    (host,) = yard.fleets.apply(FLEET).objects
    docker(host, "import", "--change", "EXPOSE 80", "-", "team/web:1", stdin=busybox)
    yield host
    yard.fleets.delete(FLEET.name)


def test_scripts_reach_services_by_their_names(
    yard: Yard, host: HostInfo, docker: Docker, tmp_path: Path
) -> None:
    service = {
        "name": "team/web:1",
        "alias": "web",
        "entrypoint": ["/bin/sh", "-c"],
        "command": [WEB],
        "variables": {"NAME": "the job"},
    }
    response = {"id": 7, "runner_info": {"timeout": 600}}
    (tmp_path / "response.json").write_text(json.dumps(response))
    (tmp_path / "script").write_text("for name in web team__web team-web; do curl -s $name; done")
    environment = {
        **os.environ,
        "JOB_RESPONSE_FILE": str(tmp_path / "response.json"),
        "CUSTOM_ENV_CI_JOB_SERVICES": json.dumps([service]),
    }

    def call(stage: str, *words: str) -> str:
        command = [sys.executable, "-m", "stockyard.cli.main", "ci", "gitlab", stage]
        command += ["--owner", OWNER, "--hypervisor", "qemu:///session", "--fleet", FLEET.name]
        command += ["--storage", str(WORK / "store"), "--pki-dir", str(WORK / "pki"), *words]
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    # A repeated preparation starts the services again.
    for _number in range(2):
        assert call("prepare") == "service web team__web team-web: started\n"
    assert call("run", str(tmp_path / "script")) == "page of the job\n" * 3
    call("cleanup", "--no-replace")
    assert yard.hosts.list(fleet=FLEET.name) == ()
