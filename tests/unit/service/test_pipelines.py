# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example pipelines that lease from the service, with a stand-in for Docker's client."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stockyard import FleetSpec, TemplateSpec, Yard
from stockyard.service.projects import Project
from tests.helpers.clocks import BriskClock
from tests.helpers.running_daemon import PATIENCE, Running, add

CHECKOUT = Path(__file__).parents[3]
PIPELINES = CHECKOUT / "examples" / "pipelines"
SDK = CHECKOUT / "plugins" / "module_utils"


def gitlab() -> tuple[str, str]:
    """Return the script and the address of the service in the pipeline for GitLab."""
    pipeline = yaml.safe_load((PIPELINES / "gitlab-ci.lease.yml").read_text())
    script = "\n".join(pipeline["build"]["script"])
    return script, str(pipeline["variables"]["STOCKYARD_SERVICE"])


def jenkins() -> tuple[str, str]:
    """Return the same of the pipeline for Jenkins."""
    text = (PIPELINES / "Jenkinsfile.service").read_text()
    (step,) = re.findall(r"sh '''(.*?)'''", text, re.DOTALL)
    (address,) = re.findall(r"STOCKYARD_SERVICE = '(.*?)'", text)
    return step.replace("\\\n", ""), address


@pytest.mark.parametrize("pipeline", [gitlab, jenkins])
def test_pipeline_without_the_keys_of_the_yard_gets_a_host(
    uri: str, tmp_path: Path, daemon: Running, pipeline: object
) -> None:
    assert callable(pipeline)
    script, address = pipeline()
    assert address == "http://127.0.0.1:2380"
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        endpoints = {host.docker.endpoint for host in yard.hosts.list()}
    (token,) = add(daemon, Project("web", "0" * 64, fleets=("ci",)))
    daemon.start()
    home = tmp_path / "home"
    tools = home / "bin"
    tools.mkdir(parents=True)
    (home / "token").write_text(token)
    scripts = {
        "stockyard": f'#!/bin/sh\nexec {sys.executable} -m stockyard.cli.main "$@"\n',
        "docker": '#!/bin/sh\ntest -s "$DOCKER_CERT_PATH/key.pem"\necho "$DOCKER_HOST $1" >>did\n',
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    result = subprocess.run(
        ["sh", "-e", "-c", script],
        env={
            "HOME": str(home),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(SDK),
            "STOCKYARD_SERVICE": f"http://127.0.0.1:{daemon.port}",
            "STOCKYARD_TOKEN_FILE": str(home / "token"),
            "CI_JOB_ID": "17",
            "BUILD_TAG": "jenkins-app-17",
        },
        cwd=home,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    commands = [line.split() for line in (home / "did").read_text().splitlines()]
    assert [command for _endpoint, command in commands] == ["build", "run"]
    assert {endpoint for endpoint, _command in commands} <= endpoints
    assert list((home / ".config/stockyard/served-leases").iterdir()) == []
