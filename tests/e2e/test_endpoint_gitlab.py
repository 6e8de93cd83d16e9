# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitLab's own runner, with the Docker executor and the configuration of docs/endpoint-clients.md,
runs jobs of a stand-in for GitLab in machines of the endpoint.

A server at STOCKYARD_ENDPOINT must lead 10.0.2.15:3128 of its machines to 127.0.0.1:9989.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stockyard import EndpointSpec, HostSpec, TemplateInfo, Yard
from tests.endpoint_suite.images import complete_root
from tests.helpers import gitlab_images, gitlab_runner, image_archive
from tests.helpers.docker_clients import DockerClients
from tests.helpers.gitlab import FAILED, SUCCESS, TOKEN, GitLab, Job

from . import endpoint_clients, test_endpoint
from .conftest import CHECKOUT
from .endpoint_clients import ADDRESS, IMAGE, WEB, Docker, wait_until_empty

# The fixtures of an endpoint that serves machines, and those of its clients.
client, service = test_endpoint.client, test_endpoint.service
socket, clients = test_endpoint.socket, endpoint_clients.clients
environment, images = endpoint_clients.environment, endpoint_clients.images
latest = endpoint_clients.latest
pytestmark = [pytest.mark.real, pytest.mark.full]
PAGE = CHECKOUT / "docs" / "endpoint-clients.md"
# Images for the image host: that of the helper, and that of a service.
HELPER = "gitlab-runner-helper:test"
# The proxy of the machines and of the runner, which is GitLab itself.
PROXY_PORT = 9989
FAILED_PREPARATION = "Preparation failed: adding cache volume"
# Seconds for a job on a busy machine.
PATIENCE = 900
SERVICE = "pages:test"


@pytest.fixture(scope="module")
def image_host(yard: Yard, crun: TemplateInfo, socket: Path) -> Iterator[str]:
    """The image host of an endpoint whose machines reach GitLab."""
    spec = EndpointSpec(
        test_endpoint.ENDPOINT,
        test_endpoint.IMAGES,
        crun.name,
        socket=str(socket),
        host=HostSpec(egress="proxy", egress_proxy=f"127.0.0.1:{PROXY_PORT}"),
    )
    yard.endpoints.apply(spec)
    yield spec.image_host
    yard.endpoints.delete(spec.name)


@pytest.fixture(scope="module")
def program() -> Path:
    """GitLab's runner, built if it does not exist."""
    return gitlab_runner.fetch()


@pytest.fixture
def gitlab(tmp_path: Path) -> Iterator[GitLab]:
    """A GitLab that has no jobs yet."""
    gitlab = GitLab(tmp_path / "gitlab", PATIENCE, PROXY_PORT, "http://gitlab.example.com")
    yield gitlab
    gitlab.close()


@pytest.fixture
def job_images(latest: Docker, program: Path, clients: DockerClients, tmp_path: Path) -> None:
    """Give the image host the helper image and the image of a service."""
    helper, web = tmp_path / "helper.tar", tmp_path / "web.tar"
    base = complete_root(clients.busybox, "gitlab")
    gitlab_images.save_helper(program, HELPER, base, helper)
    settings = {"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", WEB], "ExposedPorts": {"80/tcp": {}}}
    image_archive.save(web, SERVICE, (base,), settings)
    for archive in (helper, web):
        latest("load", "-i", str(archive))


@pytest.fixture
def runner(
    gitlab: GitLab,
    program: Path,
    job_images: None,
    environment: dict[str, str],
    tmp_path: Path,
) -> Iterator[None]:
    """The runner, with the configuration of the page but for names and images."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for old, new in {
        "https://gitlab.example.com": gitlab.url,
        "glrt-…": TOKEN,
        "unix:///home/ci/doors.sock": environment["DOCKER_HOST"],
        '"debian:bookworm"': f'"{IMAGE}"\n    helper_image = "{HELPER}"',
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    configuration = tmp_path / "config.toml"
    configuration.write_text(f"check_interval = 1\n{text}")
    settings = {"http_proxy": f"http://127.0.0.1:{PROXY_PORT}", "HOME": str(tmp_path)}
    log_file = tmp_path / "runner.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [str(program), "run", "--config", str(configuration)],
            env={"PATH": os.environ["PATH"], **settings},
            stdout=log,
            stderr=log,
        )
    yield
    process.terminate()
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()
        print(log_file.read_text()[-20000:])


@pytest.fixture
def machine_names(request: pytest.FixtureRequest) -> Callable[[], list[str]]:
    """Return the machines that exist; none if others serve the endpoint."""
    if os.environ.get(ADDRESS):
        return list
    yard = request.getfixturevalue("yard")
    return lambda: test_endpoint.machines(yard)


def run(gitlab: GitLab, *jobs: Job) -> None:
    """Wait until the jobs have ended, and print their output."""
    begin = time.monotonic()
    try:
        while not all(job.ended for job in jobs):
            assert time.monotonic() < begin + PATIENCE
            time.sleep(0.2)
    finally:
        for job in jobs:
            print(f"--- {job.id} {job.state} {job.failure_reason} {job.exit_code}\n{job.text}")
        print(f"{time.monotonic() - begin:.1f} s")


def test_runner_starts_the_containers_of_each_job(
    latest: Docker,
    gitlab: GitLab,
    runner: None,
    machine_names: Callable[[], list[str]],
) -> None:
    first = gitlab.add(
        "cat input",
        "wget -Y off -qO- http://web/ > page",
        artifacts=["page"],
        services=[{"name": SERVICE, "alias": "web"}],
    )
    broken = gitlab.add("echo before", "exit 7", "echo after")
    run(gitlab, first, broken)
    assert first.state == SUCCESS
    assert "\ncontents\n" in first.text
    assert "WARNING" not in first.text
    assert (broken.state, broken.failure_reason, broken.exit_code) == (FAILED, "script_failure", 7)
    assert "\nbefore\n" in broken.text
    assert "\nafter\n" not in broken.text
    second = gitlab.add("echo from $(cat page)", needs=[first])
    absent = gitlab.add("true", image={"name": "absent:1"})
    run(gitlab, second, absent)
    assert second.state == SUCCESS
    assert "\nfrom page\n" in second.text
    assert (absent.state, absent.failure_reason) == (FAILED, "runner_system_failure")
    wait_until_empty(latest)
    # The runner forgets the volume of a preparation that failed, such as on a busy machine.
    failures = sum(job.text.count(FAILED_PREPARATION) for job in (first, broken, second, absent))
    assert len(latest("volume", "ls", "-q").split()) <= failures
    networks = latest("network", "ls", "--format", "{{.Name}}").split()
    assert sorted(networks) == ["bridge", "host", "none"]
    end = time.monotonic() + test_endpoint.DELETION
    while names := machine_names():
        assert time.monotonic() < end, names
        time.sleep(0.5)
