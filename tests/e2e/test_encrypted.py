# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted data in a real guest: the key is nowhere, a host that booted waits for it, and what was
there is there.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HostInfo,
    HostSpec,
    InvalidInput,
    SecuritySpec,
    TemplateInfo,
    VolumeUse,
    Yard,
)
from stockyard.resources.volumes import encryption

from .conftest import OWNER, TEMPLATE, WORK, Docker, ssh
from .test_secrets import pieces

pytestmark = [pytest.mark.real, pytest.mark.full]
SECRET = "canary" + os.urandom(24).hex()
SEALED = replace(
    TEMPLATE, name="sealed", docker="stopped", security=SecuritySpec(encrypted_data=True)
)
FLEET = FleetSpec(
    "safe", "sealed", host=HostSpec(volumes=(VolumeUse("{host}-docker", size_gib=2),))
)
KEPT = b"what-is-in-a-container-that-is-encrypted"


def opened(secret: str) -> Yard:
    return Yard(
        "qemu:///session",
        owner=OWNER,
        storage=str(WORK / "store"),
        pki_dir=str(WORK / "pki"),
        volume_key=secret,
    )


@pytest.fixture(scope="module")
def sealed(yard: Yard, template: TemplateInfo) -> Iterator[Yard]:
    """A yard that has the key."""
    with opened(SECRET) as opened_yard:
        opened_yard.templates.apply(SEALED)
        yield opened_yard
        opened_yard.fleets.delete("safe")
        with suppress(Exception):
            opened_yard.volumes.delete("safe-1-docker")


@pytest.fixture(scope="module")
def host(sealed: Yard, docker: Docker, busybox: bytes) -> HostInfo:
    """A host with something on its encrypted volume."""
    (host,) = sealed.fleets.apply(FLEET).objects
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    docker(
        host,
        "run",
        "-v",
        "named:/data",
        "busybox",
        "sh",
        "-c",
        f"echo {KEPT.decode()} > /data/file",
    )
    return host


def kept(docker: Docker, host: HostInfo) -> bytes:
    return docker(host, "run", "--rm", "-v", "named:/data", "busybox", "cat", "/data/file").stdout


def secrets(sealed: Yard) -> list[bytes]:
    """The secret and what is made of it, as text and as bytes."""
    (record,) = [
        v
        for v in sealed.context.provider.volumes.observe(OWNER).volumes
        if v.name == "safe-1-docker"
    ]
    key = encryption.key_of(sealed.context, record)
    return [SECRET.encode(), key.encode(), bytes.fromhex(key)]


def test_the_volume_is_encrypted(sealed: Yard, host: HostInfo) -> None:
    (volume,) = sealed.volumes.list(name="safe-1-docker")
    assert volume.encrypted
    output = ssh(
        host,
        "grep ' /var/lib/docker ' /proc/mounts; sudo cryptsetup status $(ls /dev/mapper | grep "
        "stockyard-)",
    )
    assert "/dev/mapper/stockyard-" in output.stdout
    assert "type:    LUKS2" in output.stdout
    ssh(host, "sync")
    raw = list(pieces(Path(volume.disk)))
    assert not any(KEPT in piece for piece in raw)
    assert any(b"LUKS\xba\xbe" in piece for piece in raw)


def test_the_key_is_in_no_file_process_record_or_log(
    sealed: Yard, template: TemplateInfo, host: HostInfo
) -> None:
    keys = secrets(sealed)
    files = [Path(folder, name) for folder, _folders, names in os.walk(WORK) for name in names]
    files += [p for p in Path.home().glob(".cache/libvirt/**/*") if p.is_file()]
    held = [p for p in files if not p.is_symlink() and p.is_file() and holds(p, keys)]
    assert held == []
    # The controller's list of processes, and the guest's, and what the guest wrote down.
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
    domains = subprocess.run(
        ["virsh", "-c", "qemu:///session", "dumpxml", f"{OWNER}.default.safe-1"],
        capture_output=True,
        check=False,
    )
    inside = ssh(
        host,
        "ps -eo args; sudo journalctl --no-pager; sudo dmesg; sudo cat "
        "/var/lib/stockyard/volumes.json",
    )
    # Not as words of a command: sudo would write them down.
    patterns = f"{SECRET}\n{keys[1].decode()}\n"
    disk = ssh(
        host, "sudo grep -rlF -f - /etc /run /var /root /home /tmp 2>/dev/null", stdin=patterns
    )
    for text in (lines, domains.stdout, inside.stdout.encode()):
        assert not any(secret in text for secret in keys)
    assert inside.stdout
    assert disk.stdout == ""


def holds(path: Path, needles: list[bytes]) -> bool:
    try:
        return any(secret in piece for piece in pieces(path) for secret in needles)
    except FileNotFoundError:
        return False


def test_booted_host_waits_for_the_key_of_its_volume(
    sealed: Yard, yard: Yard, docker: Docker, host: HostInfo
) -> None:
    """By itself, from inside: the hypervisor notices nothing of it."""
    ssh(host, "sync; sudo systemctl reboot")
    end = time.monotonic() + 300
    while not (waiting := sealed.hosts.list(name="safe-1")[0]).waits:
        assert time.monotonic() < end, waiting
        time.sleep(2)
    assert (waiting.ready, waiting.state) == (False, "running")
    assert docker(host, "ps", check=False, timeout=60).returncode != 0
    with pytest.raises(InvalidInput, match="volume_key is not set"):
        yard.fleets.apply(FLEET)
    with (
        opened(SECRET[::-1]) as other_yard,
        pytest.raises(InvalidInput, match="volume_key differs"),
    ):
        other_yard.fleets.apply(FLEET)
    assert [a.verb for a in sealed.fleets.apply(FLEET).plan.actions] == ["unlock"]
    assert kept(docker, host).strip() == KEPT
    assert sealed.hosts.list(name="safe-1")[0].uuid == host.uuid


def test_next_host_opens_the_encrypted_volume_and_it_grows(
    sealed: Yard, docker: Docker, host: HostInfo
) -> None:
    sealed.fleets.delete("safe")
    larger = HostSpec(volumes=(VolumeUse("{host}-docker", size_gib=3),))
    (after,) = sealed.fleets.apply(replace(FLEET, host=larger)).objects
    assert after.uuid != host.uuid
    assert kept(docker, after).strip() == KEPT
    assert int(ssh(after, "df --output=size -B1M /var/lib/docker | tail -1").stdout) > 2700
