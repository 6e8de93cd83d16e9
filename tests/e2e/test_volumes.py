# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in real guests: what is on them outlives hosts, kills and rebuilds, and one host at a
time has it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stockyard import (
    FleetSpec,
    HostInfo,
    HostSpec,
    HypervisorError,
    OperationRefused,
    TemplateInfo,
    VolumeInfo,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import Deadline

from . import private_libvirt
from .conftest import OWNER, TEMPLATE, WORK, Docker, ssh
from .test_recovery import pid_of, wait_until_off

pytestmark = pytest.mark.real
STATEFUL = replace(TEMPLATE, name="stateful", docker="stopped")
PREPARED = (STATEFUL,)
STATE = FleetSpec(
    "state", "stateful", count=1, host=HostSpec(volumes=(VolumeUse("{host}-docker", size_gib=4),))
)
SEEDED = FleetSpec(
    "seeded",
    "stateful",
    count=2,
    host=HostSpec(volumes=(VolumeUse("{host}-cache", source="state-1-docker"),)),
)
PAIR = FleetSpec("pair", "docker", count=2)
GOLDEN_MIB = 256


@pytest.fixture(scope="module")
def stateful(yard: Yard, template: TemplateInfo) -> Iterator[None]:
    """A template whose Docker waits for its volume. No volume is left behind."""
    clean(yard)
    yard.templates.apply(STATEFUL)
    yield
    for fleet in (STATE, SEEDED, PAIR):
        yard.fleets.delete(fleet.name)
    clean(yard)


@pytest.fixture(scope="module")
def pair(yard: Yard, stateful: None) -> list[HostInfo]:
    """Two hosts without volumes, whose Docker runs."""
    return list(yard.fleets.apply(PAIR).objects)


def clean(yard: Yard) -> None:
    for volume in yard.volumes.list():
        if not volume.host:
            yard.volumes.delete(volume.name)


@pytest.fixture(scope="module")
def filled(yard: Yard, stateful: None, docker: Docker, busybox: bytes) -> dict[str, bytes]:
    """A host with an image, a named volume and a stopped container on its volume: what there is of
    them.
    """
    (host,) = yard.fleets.apply(STATE).objects
    assert mounts(host)["/var/lib/docker"].startswith("/dev/vd")
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    docker(
        host,
        "run",
        "--name",
        "stopped",
        "-v",
        "named:/data",
        "busybox",
        "sh",
        "-c",
        "echo kept > /data/file",
    )
    return state_of(docker, host)


def state_of(docker: Docker, host: HostInfo) -> dict[str, bytes]:
    """Return the state that must not change: images, the stopped container, and the content of the
    named volume.
    """
    return {
        "images": docker(
            host, "images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"
        ).stdout,
        "containers": docker(
            host, "ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}"
        ).stdout,
        "named": docker(
            host, "run", "--rm", "-v", "named:/data", "busybox", "cat", "/data/file"
        ).stdout,
    }


def mounts(host: HostInfo) -> dict[str, str]:
    """Device by mount point."""
    result = ssh(host, "cat", "/proc/mounts")
    assert result.returncode == 0, result.stderr
    return {words[1]: words[0] for words in map(str.split, result.stdout.splitlines())}


def fsck(disk: str, tmp_path: Path) -> None:
    """Check that the file system on a detached volume is intact to the last block."""
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    tool = shutil.which("e2fsck", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert tool
    result = subprocess.run([tool, "-f", "-n", raw], capture_output=True, text=True, check=False)
    raw.unlink()
    assert result.returncode == 0, result.stdout + result.stderr


def the(yard: Yard, name: str) -> VolumeInfo:
    (volume,) = yard.volumes.list(name=name)
    return volume


@dataclass(frozen=True)
class Passed:
    """A volume that went from a host to its copies and to the next host.

    :param detached: the volume while no host had it.
    :param copies: the contents of both copies.
    :param other: the contents of one copy after the other one lost its image.
    :param after: the next host, and the contents of the volume in it.
    """

    before: HostInfo
    detached: VolumeInfo
    copies: list[dict[str, bytes]]
    other_state: dict[str, bytes]
    after: tuple[HostInfo, dict[str, bytes]]


@pytest.fixture(scope="module")
def passed(
    yard: Yard,
    docker: Docker,
    filled: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Passed:
    (before,) = yard.hosts.list(name="state-1")
    yard.fleets.delete("state")
    detached = the(yard, "state-1-docker")
    fsck(detached.disk, tmp_path_factory.mktemp("fsck"))
    first, second = yard.fleets.apply(SEEDED).objects
    with ThreadPoolExecutor() as pool:
        copies = list(pool.map(lambda host: state_of(docker, host), (first, second)))
    docker(first, "rmi", "-f", "busybox")
    other_state = state_of(docker, second)
    yard.fleets.delete("seeded")
    (after,) = yard.fleets.apply(STATE).objects
    return Passed(before, detached, copies, other_state, (after, state_of(docker, after)))


def test_data_on_a_volume_outlive_its_host(
    yard: Yard, filled: dict[str, bytes], passed: Passed
) -> None:
    assert filled["named"] == b"kept\n"
    # While no host had it, it was whole (the fixture looks) and small.
    assert (passed.detached.host, passed.detached.filesystem) == ("", "ext4")
    assert passed.detached.allocated < 200 << 20
    after, contents = passed.after
    assert after.uuid != passed.before.uuid
    assert contents == filled
    assert not yard.fleets.apply(STATE).changed


def test_copies_of_a_cache_have_its_data(filled: dict[str, bytes], passed: Passed) -> None:
    assert passed.copies == [filled, filled]
    # Neither the other copy nor the original lost what one copy lost.
    assert passed.other_state == filled
    assert passed.after[1] == filled


def test_ten_copies_cost_nothing(yard: Yard, stateful: None) -> None:
    yard.volumes.apply(VolumeSpec("golden", size_gib=20))
    disk = the(yard, "golden").disk
    write = f"write -P 0xa5 1M {GOLDEN_MIB}M"
    # Copies are durable when they are reported: the data of their source is on the disk before.
    line = ["qemu-io", "-f", "qcow2", "-c", write, "-c", "flush", disk]
    subprocess.run(line, check=True, capture_output=True)
    size = the(yard, "golden").allocated
    assert size >= GOLDEN_MIB << 20
    begin = time.monotonic()
    for number in range(10):
        yard.volumes.apply(VolumeSpec(f"blank-{number}", size_gib=20))
    blank = time.monotonic() - begin
    begin = time.monotonic()
    for number in range(10):
        yard.volumes.apply(VolumeSpec(f"copy-{number}", source="golden"))
    took = time.monotonic() - begin
    copies = [the(yard, f"copy-{number}") for number in range(10)]
    part = sum(c.allocated for c in copies) / size
    print(f"ten copies: {took:.2f} s, {100 * part:.2f} % of {size >> 20} MiB")
    # A copy costs no more than a blank volume, of which libvirt may take most.
    assert took < max(2.0, 2 * blank)
    assert part < 0.05
    for copy in (copies[0], copies[9]):
        look = ["qemu-io", "-r", "-f", "qcow2", "-c", write.replace("write", "read"), copy.disk]
        assert (
            b"Pattern verification failed"
            not in subprocess.run(look, check=True, capture_output=True).stdout
        )
    # The layer goes with the last that lives on it, and not before.
    layers = WORK / "store" / "layers"
    own_layers = [p for p in layers.iterdir() if p.stat().st_size > GOLDEN_MIB << 20]
    yard.volumes.delete("golden")
    assert all(p.exists() for p in own_layers)
    clean(yard)
    assert own_layers
    assert not any(p.exists() for p in own_layers)


def test_one_of_two_parallel_attachments_succeeds(yard: Yard, pair: list[HostInfo]) -> None:
    """Two controllers, one volume, at once; and QEMU itself lets no second machine
    write to a disk.
    """
    spec = VolumeSpec("wanted", size_gib=1)
    yard.volumes.apply(spec)

    def ask(name: str) -> str:
        with Yard(
            "qemu:///session", owner=OWNER, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")
        ) as other_yard:
            try:
                other_yard.volumes.attach(spec, host=name, path="/data")
            except OperationRefused as error:
                return str(error)
        return ""

    try:
        with ThreadPoolExecutor() as pool:
            answers = dict(
                zip(("pair-1", "pair-2"), pool.map(ask, ("pair-1", "pair-2")), strict=True)
            )
        (winner,) = [name for name, error in answers.items() if not error]
        (loser,) = answers.keys() - {winner}
        assert f"it is attached to host {winner}" in answers[loser]
        assert the(yard, "wanted").host == winner
        provider = yard.context.provider
        second = next(h.record for h in provider.observe(OWNER).hosts if h.record.name == loser)
        record = next(v for v in provider.volumes.observe(OWNER).volumes if v.name == "wanted")
        with pytest.raises(HypervisorError, match="lock"):
            provider.volumes.plug(second, record, Deadline(30))
    finally:
        if the(yard, "wanted").host:
            yard.volumes.detach(spec.name)
        yard.volumes.delete(spec.name)


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.full)])
def test_volume_is_attached_to_a_fork_and_detached(
    yard: Yard, pair: list[HostInfo], tmp_path: Path, times: int
) -> None:
    spec, host = VolumeSpec("moved"), pair[1]
    begin = time.monotonic()
    yard.volumes.apply(replace(spec, size_gib=1))
    try:
        for number in range(times):
            yard.volumes.attach(spec, host=host.name, path="/data/moved")
            result = ssh(
                host, f"sudo sh -c 'echo {number} >> /data/moved/file; cat /data/moved/file'"
            )
            assert result.stdout.split() == [str(n) for n in range(number + 1)], result.stderr
            if number == 0:
                # Grown where it is.
                assert yard.volumes.apply(replace(spec, size_gib=2)).changed
                blocks = int(ssh(host, "df --output=size -B1M /data/moved | tail -1").stdout)
                assert blocks > 1700
            yard.volumes.detach(spec.name)
            assert "/data/moved" not in mounts(host)
        print(f"{times} times in and out: {time.monotonic() - begin:.1f} s")
        fsck(the(yard, "moved").disk, tmp_path)
    finally:
        if the(yard, "moved").host:
            yard.volumes.detach(spec.name)
        yard.volumes.delete(spec.name)


@pytest.mark.full
def test_data_on_a_volume_outlive_a_kill(
    yard: Yard, docker: Docker, filled: dict[str, bytes]
) -> None:
    (host,) = yard.fleets.apply(STATE).objects
    ssh(host, "sync")
    os.kill(pid_of(host.uuid), signal.SIGKILL)
    wait_until_off(yard, "state-1")
    second_result = yard.fleets.apply(STATE)
    assert [a.verb for a in second_result.plan.actions] == ["start"]
    assert mounts(second_result.objects[0])["/var/lib/docker"].startswith("/dev/vd")
    assert state_of(docker, second_result.objects[0]) == filled


@pytest.mark.full
def test_data_on_a_volume_outlive_a_rebuild(
    yard: Yard, docker: Docker, filled: dict[str, bytes], tmp_path: Path
) -> None:
    """Another generation: the host is replaced, and its volume goes to the one that comes."""
    yard.fleets.apply(STATE)
    changed = replace(STATEFUL, image=replace(STATEFUL.image, files={"/etc/generation": "2\n"}))
    yard.templates.apply(changed)
    rolled = yard.fleets.apply(STATE)
    assert [a.verb for a in rolled.plan.actions] == ["delete", "create"]
    (after,) = rolled.objects
    assert ssh(after, "cat /etc/generation").stdout == "2\n"
    assert state_of(docker, after) == filled
    yard.fleets.delete("state")
    fsck(the(yard, "state-1-docker").disk, tmp_path)
    yard.templates.apply(STATEFUL)


@pytest.mark.full
def test_docker_does_not_start_without_its_volume(
    yard: Yard, docker: Docker, filled: dict[str, bytes]
) -> None:
    """Without the disk in the definition the booted host is not ready, and no data are lost."""
    (host,) = yard.fleets.apply(STATE).objects
    result = ssh(
        host, "sudo systemctl stop docker.socket docker.service && sudo umount /var/lib/docker"
    )
    assert result.returncode == 0, result.stderr
    ssh(host, "sudo systemctl start docker.service")
    assert ssh(host, "systemctl is-active docker.service").stdout.strip() == "inactive"
    yard.hosts.restart("state-1")
    assert state_of(docker, yard.hosts.list(name="state-1")[0]) == filled


@pytest.mark.full
def test_volumes_are_attached_after_a_restart_of_the_hypervisor(
    yard: Yard, stateful: None, docker: Docker, busybox: bytes, tmp_path: Path
) -> None:
    """Every QEMU and the daemon are killed at once; one run brings the yard back."""
    facts = private_libvirt.run(
        tmp_path,
        """
        from stockyard import VolumeUse
        data = VolumeUse("{host}-data", path="/data", size_gib=1)
        uses = (VolumeUse("{host}-docker", size_gib=2), data)
        spec = FleetSpec("island", "stateful", count=1, host=HostSpec(volumes=uses))
        with open_yard() as yard:
            (host,) = yard.fleets.apply(spec).objects
            script = "echo here > /data/file; docker volume create kept; sync"
            wrote = ssh(host, f"sudo sh -c '{script}'").stdout
        kill("libvirtd")
        for pid in qemus():
            os.kill(pid, signal.SIGKILL)
        while qemus():
            time.sleep(0.1)
        with open_yard() as yard:
            end = time.monotonic() + 20
            while any(h.ready for h in yard.hosts.list()) and time.monotonic() < end:
                time.sleep(0.2)
            again = yard.fleets.apply(spec)
            script = "cat /data/file; sudo docker volume ls -q; mount | grep -c ^/dev/vd[b-z]"
            said = ssh(again.objects[0], script)
            third = yard.fleets.apply(spec).changed
            kept = yard.teardown().retained
            yard.teardown(volumes=True)
            left = yard.volumes.list()
        print(json.dumps({
            "wrote": wrote, "verbs": [a.verb for a in again.plan.actions], "said": said.stdout,
            "third": third, "kept": kept, "left": left,
        }))
        """,
    )
    assert facts["verbs"] == ["start"], json.dumps(facts)
    assert facts["said"].split() == ["here", "kept", "2"], facts
    assert not facts["third"]
    assert [kept_object for kept_object in facts["kept"] if "island" in kept_object] == [
        "volume island-1-data",
        "volume island-1-docker",
    ]
    assert facts["left"] == []
