# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: each ends in an error that names object, cause and remedy; nothing incomplete remains; a
rerun succeeds.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Hardware,
    ImageError,
    ImageSpec,
    NotFound,
    OperationRefused,
    SingleSpec,
    StockyardError,
    TemplateInfo,
    TemplateSpec,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.model.host import HostRecord
from stockyard.model.template import TemplateRecord
from stockyard.providers.libvirt import fork

from .conftest import TEMPLATE, WORK
from .test_recovery import pid_of

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("nothing_is_built")]
SAMPLE = SingleSpec("sample", "docker")
# Seconds for a killed daemon to end.
PATIENCE = 30.0
# Seconds of a boot until its deadline.
BOOTING = 3.0


@pytest.fixture(autouse=True)
def nothing_stays(yard: Yard, template: TemplateInfo) -> Iterator[None]:
    """Whatever a test did to it, the sample host is gone afterwards."""
    yield
    yard.hosts.delete(SAMPLE.name)


def leaves_nothing(yard: Yard) -> bool:
    folders = {p.name for p in (WORK / "store" / "hosts").iterdir()}
    known = {h.uuid for h in yard.hosts.list()}
    return not yard.hosts.list(name="sample") and folders == known


def folder_of(template: TemplateInfo) -> Path:
    return Path(template.storage) / "templates" / str(template.uuid)


def kill_after(monkeypatch: pytest.MonkeyPatch, yard: Yard, step: str) -> None:
    """Kill the host's QEMU as soon as a step of the provider has been done."""
    provider = yard.context.provider
    original: Callable[..., Any] = getattr(provider, step)

    def then_kill(record: HostRecord, *arguments: Any) -> Any:
        result = original(record, *arguments)
        os.kill(pid_of(record.uuid), signal.SIGKILL)
        return result

    monkeypatch.setattr(provider, step, then_kill)


@pytest.mark.parametrize("step", ["fork", "channel", "set_link"])
def test_qemu_killed_during_the_creation_of_a_host(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, yard, step)
        with pytest.raises(StockyardError) as caught:
            yard.hosts.apply(SAMPLE, timeout=20)
    assert "host sample" in str(caught.value)
    assert "the guest's console log is in" in str(caught.value)
    assert leaves_nothing(yard)
    assert yard.hosts.apply(SAMPLE).objects[0].ready


def test_controller_killed_during_the_creation_of_a_host(
    yard: Yard, template: TemplateInfo
) -> None:
    """The remainder counts as incomplete, and the next run creates it again."""
    script = f"""
import os, signal
from stockyard import Yard, SingleSpec
store, pki = {str(WORK / "store")!r}, {str(WORK / "pki")!r}
yard = Yard(owner={yard.context.owner!r}, storage=store, pki_dir=pki)
yard.context.provider.set_link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
yard.hosts.apply(SingleSpec("sample", "docker"))
"""
    result = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert result.returncode == -signal.SIGKILL
    assert not yard.hosts.list(name="sample")[0].ready
    plan = yard.hosts.apply(SAMPLE).plan
    assert [a.verb for a in plan.actions] == ["replace"]
    assert yard.hosts.list(name="sample")[0].ready


def test_a_paused_host_is_not_called_ready_and_runs_again(
    yard: Yard, template: TemplateInfo
) -> None:
    sample = yard.hosts.apply(SAMPLE).objects[0]
    subprocess.run(
        ["virsh", "-c", "qemu:///session", "suspend", sample.uuid], check=True, capture_output=True
    )
    observed = yard.hosts.list(name="sample")[0]
    assert (observed.state, observed.ready) == ("paused", False)
    assert [a.verb for a in yard.hosts.apply(SAMPLE).plan.actions] == ["start"]
    assert yard.hosts.list(name="sample")[0].ready
    assert yard.hosts.list(name="sample")[0].identity == sample.identity


@pytest.mark.parametrize("part", ["state", "ram", "disk.qcow2"])
def test_a_file_of_the_template_changed(yard: Yard, template: TemplateInfo, part: str) -> None:
    path = folder_of(template) / part
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as handle:
        handle.seek(-1, os.SEEK_END)
        last = handle.read(1)
        handle.seek(-1, os.SEEK_END)
        handle.write(bytes([last[0] ^ 1]))
    try:
        assert "checksum differs" in yard.templates.list(name="docker")[-1].problem
        with pytest.raises((ImageError, NotFound), match="was changed after it was frozen"):
            yard.hosts.apply(SAMPLE)
        assert [a.verb for a in yard.templates.apply(TEMPLATE, check=True).plan.actions] == [
            "build"
        ]
        assert leaves_nothing(yard)
    finally:
        with path.open("r+b") as handle:
            handle.seek(-1, os.SEEK_END)
            handle.write(last)
        path.chmod(before.st_mode & 0o777)
    # A file that was put back is whole again, whatever its time of change says.
    assert yard.templates.list(name="docker")[-1].usable
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("part", ["state", "ram", "disk.qcow2"])
def test_missing_file_of_a_template(yard: Yard, template: TemplateInfo, part: str) -> None:
    path = folder_of(template) / part
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        with pytest.raises((ImageError, NotFound), match=f"{part} is missing"):
            yard.hosts.apply(SAMPLE)
        assert leaves_nothing(yard)
    finally:
        aside.rename(path)
    assert yard.templates.list(name="docker")[-1].usable


def test_a_template_with_hosts_is_not_removed(yard: Yard, template: TemplateInfo) -> None:
    yard.hosts.apply(SAMPLE)
    with pytest.raises(OperationRefused, match="hosts of the template exist"):
        yard.templates.delete("docker")
    assert yard.templates.list(name="docker")[-1].usable


def test_nonexistent_package(yard: Yard) -> None:
    spec = TemplateSpec("nosuch", image=ImageSpec(packages=("no-such-package-anywhere",)))
    with pytest.raises(ImageError, match="no-such-package-anywhere"):
        yard.templates.apply(spec)
    assert not yard.templates.list(name="nosuch")
    assert not list((WORK / "store" / "images").glob("work-*"))


def test_template_that_misses_its_deadline(
    yard: Yard, template: TemplateInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image exists: the time runs out while the guest boots, however long apt-get takes."""
    skipped = [0.0]
    original = yard.context.provider.start

    def start_late(record: TemplateRecord, deadline: Deadline) -> str:
        warning = original(record, deadline)
        skipped.append(deadline.left() - BOOTING)
        return warning

    spec = TemplateSpec("slow", image=TEMPLATE.image, hardware=Hardware(memory_mib=512))
    with monkeypatch.context() as patch:
        patch.setattr(yard.context.provider, "start", start_late)
        patch.setattr(yard.context.clock, "monotonic", lambda: time.monotonic() + sum(skipped))
        with pytest.raises(StockyardError) as caught:
            yard.templates.apply(spec)
    assert "template slow" in str(caught.value)
    assert not yard.templates.list(name="slow")
    listed = subprocess.run(
        ["virsh", "-c", "qemu:///session", "list", "--all", "--name"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ".slow." not in listed.stdout


@pytest.mark.full
def test_qemu_killed_in_the_freeze(
    yard: Yard, template: TemplateInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker is not needed for this: half the boot."""
    spec = TemplateSpec(
        "doomed", image=TEMPLATE.image, docker="stopped", hardware=Hardware(memory_mib=512)
    )
    original = fork.save_state

    def killed_then(domain: Any, *arguments: Any) -> None:
        os.kill(pid_of(domain.UUIDString()), signal.SIGKILL)
        original(domain, *arguments)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(fork, "save_state", killed_then)
            with pytest.raises(StockyardError, match="template doomed"):
                yard.templates.apply(spec)
        assert not yard.templates.list(name="doomed")
        assert yard.templates.apply(spec).objects[-1].usable
    finally:
        yard.templates.delete("doomed")


@pytest.mark.usefixtures("session_alone")
def test_restart_of_libvirt(yard: Yard, template: TemplateInfo) -> None:
    """The daemon of this user's session is killed; guests live on, and a yard that was open before
    connects again.
    """
    sample = yard.hosts.apply(SAMPLE).objects[0]
    kill_daemons()
    assert yard.hosts.list(name="sample")[0].uuid == sample.uuid
    assert yard.hosts.list(name="sample")[0].ready
    assert not yard.hosts.apply(SAMPLE).changed


def kill_daemons() -> None:
    """Kill the daemons of this user's session, and wait for their end: a daemon that is ending
    resets new connections.
    """
    for pid in daemons():
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGKILL)
                ended, _writable, _failed = select.select([descriptor], [], [], PATIENCE)
                assert ended, f"daemon {pid} does not end"
            finally:
                os.close(descriptor)


def daemons() -> list[int]:
    result = subprocess.run(
        ["pgrep", "-u", str(os.getuid()), "-x", "libvirtd|virtqemud"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in result.stdout.split()]


def test_read_only_storage(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    yard = Yard(owner="closed", storage=str(closed / "store"), pki_dir=str(tmp_path / "pki"))
    with yard, pytest.raises(StockyardError, match="storage"):
        yard.templates.apply(TEMPLATE)


def test_read_only_keys_directory(template: TemplateInfo, tmp_path: Path, yard: Yard) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    owner = yard.context.owner
    other_yard = Yard(owner=owner, storage=str(WORK / "store"), pki_dir=str(closed / "pki"))
    with other_yard, pytest.raises(StockyardError, match="pki_dir"):
        other_yard.hosts.apply(SAMPLE)
    assert leaves_nothing(yard)


def test_no_space_for_a_disk(tmp_path: Path) -> None:
    """In a name space of its own with a file system of 64 KiB."""
    script = f"""
from pathlib import Path
from stockyard.clock import Deadline
from stockyard.providers.common.run import run
folder = Path({str(tmp_path)!r})
argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "disk.qcow2"), "1G"]
run(argv, Deadline(20), name="host sample")
"""
    mount = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec "$@"'
    line = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
        sys.executable,
        "-c",
        script,
    ]
    result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    last = result.stderr.splitlines()[-1]
    assert "OutOfSpace: host sample" in last, result.stderr
    assert "Remedy: free space in the storage" in last
