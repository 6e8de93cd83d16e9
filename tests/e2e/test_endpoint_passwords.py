# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords of registries reach neither the image host of an endpoint nor machines that are created
afterwards. The registry runs in the image host, so each machine has a copy of it.
"""

from __future__ import annotations

import base64
import io
import secrets
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from stockyard import EndpointSpec, HostInfo, TemplateInfo, Yard

from . import registry_stand_in
from .branched_hosts import libvirt_of
from .conftest import WORK, Docker, ssh
from .test_endpoint import DELETION, Client, Service, machines
from .test_secrets import pieces

pytestmark = [pytest.mark.real, pytest.mark.full]
ENDPOINT, IMAGES = "login-doors", "login-images"
REGISTRY = f"127.0.0.1:{registry_stand_in.PORT}"
IMAGE = f"{REGISTRY}/{registry_stand_in.NAME}"
USER = "user"


@pytest.fixture(scope="module")
def password() -> str:
    return f"correct-horse-{secrets.token_hex(12)}"


@pytest.fixture(scope="module")
def image_host(
    yard: Yard,
    template: TemplateInfo,
    docker: Docker,
    busybox: bytes,
    password: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EndpointSpec]:
    """An image host with a registry."""
    socket = tmp_path_factory.mktemp("logins") / "endpoint.sock"
    spec = EndpointSpec(ENDPOINT, IMAGES, template.name, socket=str(socket))
    yard.endpoints.apply(spec)
    host = yard.hosts.get(IMAGES)
    docker(host, "import", "--change", 'CMD ["sh"]', "-", "busybox", stdin=busybox)
    basic = base64.b64encode(f"{USER}:{password}".encode())
    digest = registry_stand_in.digest_of(b"Basic " + basic)
    program = Path(registry_stand_in.__file__).read_text()
    assert ssh(host, "cat >registry.py", stdin=program).returncode == 0
    started = ssh(host, f"sudo systemd-run --unit=registry python3 $PWD/registry.py {digest}")
    assert started.returncode == 0, started.stderr
    yield spec
    yard.endpoints.delete(ENDPOINT)


@pytest.fixture(scope="module")
def client(image_host: EndpointSpec, docker: Docker) -> Iterator[Client]:
    service = Service(Path(image_host.socket), ENDPOINT)
    service.start()
    (WORK / "docker-home").mkdir(exist_ok=True)
    yield Client(docker.client, service.socket)
    assert service.end(signal.SIGTERM) == 0


def forms(text: str) -> list[bytes]:
    """Return a text as it can be in memory: plain, and in base64 at each position."""
    plain = text.encode()
    encoded = [base64.b64encode(bytes(shift) + plain) for shift in range(3)]
    return [plain, *(code[4 if number else 0 : -4] for number, code in enumerate(encoded))]


def holds(path: Path, needles: list[bytes]) -> bool:
    return any(needle in piece for piece in pieces(path) for needle in needles)


def only_machine(yard: Yard) -> str:
    """Wait until the machines of the other calls are deleted, and return the remaining one."""
    end = time.monotonic() + DELETION
    while len(names := machines(yard)) > 1:
        assert time.monotonic() < end, names
        time.sleep(0.2)
    return names[0]


def dump(yard: Yard, host: HostInfo, path: Path) -> Path:
    """Write the memory of a host into a file."""
    domain = libvirt_of(yard).connection.lookupByUUIDString(host.uuid)
    raw = libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW
    domain.coreDumpWithFormat(str(path), raw, libvirt.VIR_DUMP_MEMORY_ONLY)
    return path


def test_a_password_is_in_no_machine_that_is_created_later(
    client: Client, yard: Yard, password: str, tmp_path: Path
) -> None:
    config = ("--config", str(tmp_path / "config"))
    login = (*config, "login", "-u", USER, "-p", password, REGISTRY)
    assert b"Login Succeeded" in client(*login).stdout
    refused = client(*config, "login", "-u", USER, "-p", "wrong", REGISTRY, check=False)
    assert refused.returncode != 0
    assert b"Login Succeeded" in client(*login).stdout
    client(*config, "pull", f"{IMAGE}:1")
    assert client.lines("images", "--format", "{{.Tag}}", IMAGE) == ["1"]
    client(*config, "push", f"{IMAGE}:1")
    archive = io.BytesIO()
    dockerfile = f"FROM {IMAGE}:1\nLABEL built=yes\n".encode()
    with tarfile.open(fileobj=archive, mode="w") as context:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        context.addfile(entry, io.BytesIO(dockerfile))
    client(*config, "build", "-t", "built:1", "-", stdin=archive.getvalue())
    assert client(*config, "pull", f"{REGISTRY}/team/none:1", check=False).returncode != 0

    canary = f"canary-{secrets.token_hex(12)}"
    client("run", "-d", "--name", "later", "--network", "none", "busybox", "sleep", "600")
    client("exec", "-d", "later", "sh", "-c", f"sleep 600; : {canary}")
    name = only_machine(yard)
    images, later = yard.hosts.get(IMAGES), yard.hosts.get(name)
    memory = dump(yard, later, tmp_path / "later")
    assert holds(memory, forms(canary)), "the search finds nothing"
    assert not holds(memory, forms(password))
    memory.unlink()
    assert not holds(dump(yard, images, tmp_path / "images"), forms(password))
    (tmp_path / "images").unlink()
    for host in (images, later):
        for disk in (WORK / "store" / "hosts" / host.uuid).glob("disk*"):
            assert not holds(disk, forms(password)), disk
    client("rm", "-f", "later")
