# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template is created from a running host: hosts of it have its containers and files, and no file
of the template has a secret of the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import HostInfo, SingleSpec, TemplateInfo, TemplateSpec, VolumeSpec, Yard
from stockyard.providers.libvirt.layers import backing
from tests.helpers.values import present

from .conftest import Docker, ssh
from .guest_controller import audit
from .test_secrets import forms, holders

pytestmark = [pytest.mark.real, pytest.mark.full]
PARENT, CHILD, WARM = "source", "warm-1", TemplateSpec("warm", from_host="source")
# Words in files and logs that must be deleted, in memory and in freed blocks too.
HISTORY, CREDENTIAL, LOG = "traceofahistory7531", "traceofacredential7532", "traceofalog7533"
DELETED, CONTAINER, OUTPUT = "traceofafile7534", "traceofacontainer7535", "traceofanoutput7536"
WORDS = (HISTORY, CREDENTIAL, LOG, DELETED, CONTAINER, OUTPUT)
# The deleted file has one block between blocks that stay.
TRACES = f"""
set -e
echo {HISTORY} >/root/.bash_history
mkdir -p /root/.docker
echo {CREDENTIAL} >/root/.docker/config.json
echo {LOG} >/var/log/own.log
for name in 1 2 3 gone 4 5 6; do echo {DELETED} >/srv/$name; done
for name in 1 2 3 4 5 6; do echo content of the user >/srv/$name; done
sync
rm /srv/gone
echo content of the user >/srv/kept
sync
"""
# The words of containers are in no argument of a process, because containers continue.
FILE_OF_A_CONTAINER = (
    f"printf '%s%s' {CONTAINER[:7]} {CONTAINER[7:]} >/secret; busybox sync; busybox rm /secret"
)
OUTPUT_OF_A_CONTAINER = f"printf '%s%s' {OUTPUT[:7]} {OUTPUT[7:]}"


@pytest.fixture(scope="module")
def parent(
    yard: Yard, template: TemplateInfo, docker: Docker, busybox: bytes
) -> Iterator[HostInfo]:
    """A host with a container, a volume, and traces of its users."""
    host = yard.hosts.apply(SingleSpec(PARENT, "docker")).object
    yard.volumes.attach(VolumeSpec("dropped", size_gib=1), host=PARENT, path="/data")
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    run = ("run", "-d", "--name", "sleeper", "busybox", "/bin/sh", "-c")
    docker(host, *run, "while true; do sleep 1; done")
    docker(host, "exec", "sleeper", "/bin/sh", "-c", FILE_OF_A_CONTAINER)
    docker(host, "run", "--name", "talker", "busybox", "/bin/sh", "-c", OUTPUT_OF_A_CONTAINER)
    assert ssh(host, "sudo sh", stdin=TRACES).returncode == 0
    yield host
    for name in (CHILD, PARENT):
        yard.hosts.delete(name)
    yard.templates.delete("warm")
    yard.volumes.delete("dropped")


@pytest.fixture(scope="module")
def secrets(parent: HostInfo) -> dict[str, bytes]:
    """The private keys of the host, its certificate and IDs, the key of its logins, and the words
    of the traces.
    """
    keys = {
        path: ssh(parent, "sudo", "cat", path).stdout.encode()
        for path in ("/etc/ssh/ssh_host_ed25519_key", "/var/lib/stockyard/tls/key.pem")
    }
    authorized = ssh(parent, "sudo cat /etc/ssh/stockyard_authorized_keys").stdout.split()
    certificate = ssh(parent, "sudo cat /var/lib/stockyard/tls/cert.pem").stdout.split("\n")
    values = {word: word.encode() for word in WORDS}
    values["the key of its logins"] = max(authorized, key=len).encode()
    # The last whole line has the signature.
    values["the certificate"] = max(certificate[-5:], key=len).encode()
    values["the machine ID"] = present(parent.identity).machine_id.encode()
    values["the uuid"] = parent.uuid.encode()
    values["the MAC address"] = parent.mac.encode()
    return values | {
        f"{path} ({form})": value
        for path, pem in keys.items()
        for form, value in forms(pem).items()
    }


@pytest.fixture(scope="module")
def warm(yard: Yard, parent: HostInfo, secrets: dict[str, bytes]) -> TemplateInfo:
    return yard.templates.apply(WARM).object


def folder_of(template: TemplateInfo) -> Path:
    return Path(template.storage) / "templates" / template.uuid


def test_the_template_needs_no_layer_of_the_host(warm: TemplateInfo) -> None:
    folder = folder_of(warm)
    assert backing(folder / "disk.qcow2") == ""
    assert {path.name for path in folder.iterdir()} >= {"disk.qcow2", "ram", "state"}
    assert [path.name for path in folder.glob("volume-*")] == []


def test_a_host_of_the_template_has_the_container_and_an_identity_of_its_own(
    yard: Yard, parent: HostInfo, warm: TemplateInfo, docker: Docker
) -> None:
    child = yard.hosts.apply(SingleSpec(CHILD, "warm")).object
    for host in (parent, child):
        state = docker(host, "inspect", "sleeper", "--format", "{{.State.Status}}").stdout
        assert state == b"running\n", host.name
        assert ssh(host, "cat /srv/kept /srv/1").stdout == "content of the user\n" * 2
    ran = docker(child, "run", "--rm", "busybox", "echo", "from a container")
    assert ran.stdout == b"from a container\n"
    assert docker(child, "logs", "talker").stdout == b""
    assert docker(parent, "logs", "talker").stdout == OUTPUT.encode()
    for key in ("machine_id", "ssh_host_key", "certificate"):
        assert getattr(child.identity, key) != getattr(parent.identity, key)
    assert ssh(child, "hostname").stdout.strip() == CHILD
    assert ssh(child, "sudo ls /root/.bash_history /root/.docker").returncode
    assert ssh(child, "lsblk --noheadings --nodeps --output NAME").stdout.split() == ["vda"]
    log = ssh(child, "sudo dmesg | grep -Ei 'ext4-fs (error|warning)|I/O error|aborted'").stdout
    assert log == ""


def test_a_host_of_the_template_complies_with_its_profile(
    yard: Yard, warm: TemplateInfo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    child = yard.hosts.apply(SingleSpec(CHILD, "warm")).object
    report = audit(child, tmp_path_factory.mktemp("audit"))
    assert report["compliant"], report["findings"]


def test_no_secret_of_the_host_is_in_the_template(
    parent: HostInfo, warm: TemplateInfo, secrets: dict[str, bytes]
) -> None:
    folder = folder_of(warm)
    files = [folder / name for name in ("ram", "state", "disk.qcow2")]
    # dockerd has read the output of the container, and continues.
    assert holders(secrets, files) - {(OUTPUT, "ram")} == set()
    # The same search finds the keys on the disk of the host.
    storage = Path(warm.storage)
    disks = [*storage.glob(f"hosts/{parent.uuid}/*.qcow2"), *storage.glob("disk-layers/*.qcow2")]
    keys = {name for name, _file in holders(secrets, disks) if name.endswith("(text)")}
    assert len(keys) == 2


def test_the_template_stays_when_the_host_is_deleted(
    yard: Yard, warm: TemplateInfo, docker: Docker
) -> None:
    assert not yard.templates.apply(WARM).changed
    yard.hosts.delete(CHILD)
    yard.hosts.delete(PARENT)
    assert not yard.templates.apply(WARM).changed
    child = yard.hosts.apply(SingleSpec(CHILD, "warm")).object
    docker(child, "info")
