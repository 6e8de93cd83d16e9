# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real guests: one template, frozen once and kept under build/, and one fleet of ten that the tests
share.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HostInfo,
    HostSpec,
    ImageSpec,
    LeaseInfo,
    TemplateInfo,
    TemplateSpec,
    Yard,
)
from tests.helpers import prepare
from tests.helpers.values import present

CHECKOUT = prepare.CHECKOUT
WORK = prepare.WORK
OWNER = "e2e-" + hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]
TEMPLATE = TemplateSpec("docker", image=ImageSpec(packages=("busybox-static",)))
# The same with the runtime that docs/endpoint.md recommends for an endpoint.
CRUN = replace(TEMPLATE, name="crun", image=replace(TEMPLATE.image, runtime="crun"))
# A template whose forks can get more memory while they run.
GROWABLE = replace(TEMPLATE, name="growable", max_memory_mib=2048)
FLEET = FleetSpec("web", "docker", count=10, host=HostSpec(ports=(8080,)), labels={"suite": "e2e"})


@pytest.fixture(scope="session")
def yard(announcement: None) -> Iterator[Yard]:
    """A yard of this checkout's own, emptied of hosts before and after."""
    if os.geteuid() == 0:
        pytest.skip("libvirt's session is for ordinary users: run `make test`, which drops to one")
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed: run `make setup`")
    with Yard(
        "qemu:///session", owner=OWNER, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")
    ) as opened:
        opened.teardown()
        yield opened
        opened.teardown()


@pytest.fixture(scope="session")
def announcement(request: pytest.FixtureRequest) -> None:
    """Building a template takes minutes: say so."""
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        print(
            "\nreal guests: a first run builds an image and boots a template, which takes minutes",
            flush=True,
        )


@pytest.fixture(scope="session")
def nothing_is_built() -> None:
    """For tests that list or delete all objects: no template is built at the same time."""
    prepare.wait()


@pytest.fixture
def session_alone() -> Iterator[None]:
    """Hold libvirt's session alone: for tests that stop it or look at everything in it."""
    with prepare.session(alone=True):
        yield


@pytest.fixture(scope="session")
def template(yard: Yard) -> TemplateInfo:
    """The frozen template; older generations are deleted."""
    frozen = yard.templates.apply(TEMPLATE).object
    yard.templates.prune()
    return frozen


@pytest.fixture(scope="session")
def crun(yard: Yard, template: TemplateInfo) -> TemplateInfo:
    """A template whose containers are started by crun."""
    return yard.templates.apply(CRUN).object


@pytest.fixture(scope="session")
def growable(yard: Yard, template: TemplateInfo) -> TemplateInfo:
    """A template whose forks can get more memory while they run."""
    return yard.templates.apply(GROWABLE).object


@pytest.fixture(scope="session")
def fleet(yard: Yard, template: TemplateInfo) -> list[HostInfo]:
    """Ten hosts, as modules return them."""
    return list(yard.fleets.apply(FLEET).objects)


@dataclass(frozen=True)
class Docker:
    """Docker's own client, Debian's, taken out of the packages that the image was made of."""

    client: Path
    busybox: Path

    def __call__(
        self,
        host: HostInfo | LeaseInfo,
        *arguments: str,
        stdin: bytes | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the client against a host, as its environment variables say."""
        result = subprocess.run(
            [self.client, *arguments],
            input=stdin,
            env=self._environment(host),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result

    def first_line(self, host: HostInfo, *arguments: str, timeout: float = 60) -> bytes:
        """Return the first line that the client shows before it ends by itself."""
        with subprocess.Popen(
            [self.client, *arguments], env=self._environment(host), stdout=subprocess.PIPE
        ) as process:
            patience = threading.Timer(timeout, process.kill)
            patience.start()
            try:
                line = present(process.stdout).readline()
                assert process.poll() is None, (arguments, line)
            finally:
                patience.cancel()
                process.kill()
        return line

    @staticmethod
    def _environment(host: HostInfo | LeaseInfo) -> dict[str, str]:
        home = WORK / "docker-home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_BUILDKIT": "0"}
        return environment | host.docker.environment


def client() -> Docker:
    """The client and a static busybox. Any process may be the first to take them out."""
    store = WORK / "store" / "images"
    tools = WORK / "tools"
    targets = {"./usr/bin/docker": tools / "docker", "./bin/busybox": tools / "busybox"}
    if not all(path.exists() for path in targets.values()):
        tools.mkdir(exist_ok=True)
        base = max(store.glob("base-*.tar"), key=lambda p: p.stat().st_mtime)
        with tarfile.open(base) as archive:
            for member in archive:
                name = member.name.replace("./usr/bin/busybox", "./bin/busybox")
                if name in targets and member.isreg():
                    half = targets[name].with_suffix(f".{os.getpid()}")
                    with archive.extractfile(member) as source, half.open("wb") as target:  # type: ignore[union-attr]
                        shutil.copyfileobj(source, target)
                    half.chmod(0o755)
                    half.rename(targets[name])
    return Docker(tools / "docker", tools / "busybox")


def busybox_root(docker: Docker) -> bytes:
    """A tar archive that makes a busybox image by `docker import`: the same each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("bin")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = docker.busybox.stat().st_size, 0o755
        with docker.busybox.open("rb") as content:
            archive.addfile(entry, content)
        for name in ("sh", "cat", "echo", "httpd", "sleep", "true"):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def docker(yard: Yard, template: TemplateInfo) -> Docker:
    """The client and a static busybox."""
    return client()


@pytest.fixture(scope="session")
def busybox(docker: Docker) -> bytes:
    """A tar archive that makes a busybox image by `docker import`."""
    return busybox_root(docker)


def ssh(
    host: HostInfo,
    *command: str,
    known_hosts: str = "",
    timeout: float = 90,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command over SSH with strict host-key checking, as the result's facts say."""
    way = host.ssh
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": known_hosts or way.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "30",
    }
    flags = [f"-o{key}={value}" for key, value in options.items()]
    line = [
        "ssh",
        *flags,
        "-F",
        "/dev/null",
        "-i",
        way.private_key,
        "-p",
        str(way.port),
        "--",
        f"{way.user}@{way.host}",
    ]
    return subprocess.run(
        [*line, *command], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
