# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted data in a real guest: the key is nowhere, a host that booted waits for it, and what was
there is there.
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    BranchSpec,
    FleetSpec,
    HostInfo,
    HostSpec,
    InvalidInput,
    OperationRefused,
    SecuritySpec,
    SingleSpec,
    TemplateInfo,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.resources.fleets.suspend_fleet import FleetSuspension
from stockyard.resources.volumes import encryption
from tests.helpers.luks import volume_key

from .conftest import OWNER, TEMPLATE, WORK, Docker, ssh
from .test_secrets import holders, pieces

pytestmark = [pytest.mark.real, pytest.mark.full]
SECRET = "canary" + os.urandom(24).hex()
SEALED = replace(
    TEMPLATE, name="sealed", docker="stopped", security=SecuritySpec(encrypted_data=True)
)
FLEET = FleetSpec(
    "safe", "sealed", host=HostSpec(volumes=(VolumeUse("{host}-docker", size_gib=2),))
)
# A host without volumes, its children, and a volume that it uses for a while.
PARENT, CHILDREN, DETACHED = "opened", "opened-children", "opened-data"
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


def secrets(sealed: Yard, volume: str = "safe-1-docker") -> list[bytes]:
    """The secret and what is made of it, as text and as bytes."""
    (record,) = [
        v for v in sealed.context.provider.volumes.observe(OWNER).volumes if v.name == volume
    ]
    key = encryption.key_of(sealed.context, record)
    return [SECRET.encode(), key.encode(), bytes.fromhex(key)]


def key_of_the_disk(disk: str, key: bytes, folder: Path) -> bytes:
    """The key that the kernel uses, which is on the disk, encrypted by the key of the volume."""
    header = folder / "header"
    command = ["qemu-img", "dd", "-U", "-f", "qcow2", "-O", "raw", "bs=1M", "count=1"]
    subprocess.run([*command, f"if={disk}", f"of={header}"], check=True)
    return volume_key(header.read_bytes(), key)


def dump(host: str, folder: Path) -> Path:
    """The memory of a running host."""
    path = folder / f"memory-of-{host}"
    path.unlink(missing_ok=True)
    domain = f"{OWNER}.default.{host}"
    command = ["virsh", "-c", "qemu:///session", "dump", "--memory-only", "--live"]
    subprocess.run([*command, domain, str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


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


def test_host_with_an_encrypted_volume_is_shut_down_instead_of_suspended(
    sealed: Yard, docker: Docker, host: HostInfo
) -> None:
    for suspend, name in ((sealed.hosts.suspend, "safe-1"), (sealed.fleets.suspend, "safe")):
        with pytest.raises(OperationRefused, match="cannot be suspended"):
            suspend(name)
    assert sealed.hosts.get("safe-1").ready
    # As the suspension of the yard does it, but other hosts of the yard continue.
    suspension = FleetSuspension(sealed.context, "default", "safe", shut_down=True)
    todo = suspension.apply(sealed.context.deadline(300))
    assert [action.verb for action in todo.actions] == ["stop"]
    assert sealed.hosts.get("safe-1").state == "off"
    keys = secrets(sealed)[1:]
    files = [path for path in Path.home().glob(".config/libvirt/qemu/**/*") if path.is_file()]
    assert [path for path in files if holds(path, keys)] == []
    assert [action.verb for action in sealed.fleets.apply(FLEET).plan.actions] == ["start"]
    assert kept(docker, host).strip() == KEPT


def test_next_host_opens_the_encrypted_volume_and_it_grows(
    sealed: Yard, docker: Docker, host: HostInfo
) -> None:
    sealed.fleets.delete("safe")
    larger = HostSpec(volumes=(VolumeUse("{host}-docker", size_gib=3),))
    (after,) = sealed.fleets.apply(replace(FLEET, host=larger)).objects
    assert after.uuid != host.uuid
    assert kept(docker, after).strip() == KEPT
    assert int(ssh(after, "df --output=size -B1M /var/lib/docker | tail -1").stdout) > 2700


@pytest.fixture
def opened_host(sealed: Yard) -> Iterator[HostInfo]:
    """A host that an encrypted volume is attached to."""
    host = sealed.hosts.apply(SingleSpec(PARENT, "sealed")).object
    sealed.volumes.attach(VolumeSpec(DETACHED, size_gib=1), host=PARENT, path="/data")
    yield host
    sealed.fleets.delete(CHILDREN)
    sealed.hosts.delete(PARENT)
    sealed.volumes.delete(DETACHED)


def test_no_key_or_data_of_a_detached_volume_is_in_a_branch_of_its_host(
    sealed: Yard, opened_host: HostInfo, tmp_path: Path
) -> None:
    first, second = os.urandom(12).hex(), os.urandom(12).hex()
    # In two parts, so that the whole word is in no argument of a process.
    ssh(opened_host, f"printf '%s%s' {first} {second} | sudo tee /data/file >/dev/null; sync")
    _secret, text, raw = secrets(sealed, DETACHED)
    (volume,) = sealed.volumes.list(name=DETACHED)
    used = key_of_the_disk(volume.disk, text, tmp_path)
    values = {
        "key": text,
        "bytes of the key": raw,
        "key in base64": base64.b64encode(text),
        "bytes of the key in base64": base64.b64encode(raw),
        # XTS uses two keys, which are in different places.
        "first key of the kernel": used[: len(used) // 2],
        "second key of the kernel": used[len(used) // 2 :],
        "data": (first + second).encode(),
    }
    held_while_attached = {name for name, _file in holders(values, [dump(PARENT, tmp_path)])}
    assert held_while_attached >= {"first key of the kernel", "second key of the kernel", "data"}
    sealed.volumes.detach(DETACHED)
    assert holders(values, [dump(PARENT, tmp_path)]) == set()
    (child,) = sealed.hosts.branch(BranchSpec(PARENT, fleet=CHILDREN, count=1)).objects
    files = [path for path in (WORK / "store" / "branches").rglob("*") if path.is_file()]
    assert {"ram", "state"} <= {path.name for path in files}
    assert holders(values, [*files, dump(child.name, tmp_path)]) == set()
