# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors that controllers are killed on, and what there is on them."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stockyard import InvalidInput, TemplateSpec
from stockyard.hypervisor.records import decode_volume
from stockyard.providers.common import ownership
from stockyard.providers.memory.provider import MemoryProvider
from stockyard.providers.open import open_provider
from tests.crash import jobs
from tests.crash.jobs import JOBS, UNIT, YardSettings
from tests.helpers import prepare

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.crash.jobs"])
PATIENCE = 300.0
# Runs of a job on real guests, until one of them is killed before its end.
ATTEMPTS = 4
# Seconds in which a host whose branch was interrupted runs again.
RECOVERY = 2.0
REPLAY = "STOCKYARD_CRASH_SEEDS"


@dataclass
class CrashBench:
    """One hypervisor.

    :param by_time: whether a job is killed at a moment, as seen from outside; else at one of the
        calls that it makes.
    """

    settings: YardSettings
    by_time: bool
    lengths: dict[str, float] = field(default_factory=dict)

    def inventory(self) -> dict[str, set[str]]:
        """Return all existing objects of the owner, or without an owner, by kind."""
        raise NotImplementedError

    def clear(self) -> None:
        """Reset the yard without the code under test."""
        raise NotImplementedError

    def length(self, name: str) -> float:
        """Return the length of a job that is not killed: in calls, or in seconds. It is measured
        once.

        On real guests that takes a while, so all follow from the length of one: it says how fast
        the machine is. A job that ended before it was killed has its own length.
        """
        if name not in self.lengths:
            if self.by_time and name != UNIT:
                return JOBS[name].length * self.length(UNIT)
            self.clear()
            self.prepare(name)
            begin = time.monotonic()
            calls = self._done(*self._started(name, -1 if self.by_time else 0))
            self.lengths[name] = time.monotonic() - begin if self.by_time else calls
        return self.lengths[name]

    def prepare(self, name: str) -> None:
        """Have what is there before a job."""
        with self.settings.open() as yard:
            JOBS[name].prepare(self.settings, yard)

    def kill(self, name: str, part: float) -> None:
        """Do a part of a job, of its length, and die of SIGKILL.

        A job that ends before the kill tells its true length, and is repeated.
        """
        for _attempt in range(ATTEMPTS):
            if self._die(name, part):
                break
        if JOBS[name].continues:
            self.wait_until_running(JOBS[name].continues)

    def _die(self, name: str, part: float) -> bool:
        """Return whether the job was killed before its end."""
        length = self.length(name)
        self.clear()
        self.prepare(name)
        process, connection = self._started(name, -1 if self.by_time else 1 + int(part * length))
        if self.by_time:
            begin = time.monotonic()
            process.join(part * length)
            if process.exitcode == 0:
                self.lengths[name] = time.monotonic() - begin
            process.kill()
        process.join(PATIENCE)
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        connection.close()
        print(f"{name}: {part:.0%} of {length:.1f}, exit status {process.exitcode}")
        return process.exitcode != 0 or not self.by_time

    def wait_until_running(self, host: str) -> None:
        """Wait until the machine of a host runs. On a memory hypervisor it always does."""

    def _started(self, name: str, last: int) -> tuple[Any, Any]:
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=jobs.run, args=(self.settings, name, last, sender))
        process.start()
        sender.close()
        assert receiver.poll(PATIENCE)
        assert receiver.recv() == "begin"
        return process, receiver

    def _done(self, process: Any, connection: Any) -> int:
        assert connection.poll(PATIENCE)
        calls: int = connection.recv()
        process.join(PATIENCE)
        assert process.exitcode == 0
        return calls

    def secrets(self) -> set[str]:
        """Files in the directory for keys that should not outlast a job: by their names."""
        home = Path(self.settings.pki) / self.settings.owner / "default"
        files = {
            str(p.relative_to(home))
            for p in home.rglob("*")
            if p.name.startswith(".") and p.name != ".lock"
        }
        return files | {f"leases/{p.name}" for p in home.glob("leases/*")}


class MemoryBench(CrashBench):
    """A memory hypervisor."""

    @property
    def path(self) -> Path:
        return Path(self.settings.uri.removeprefix("memory://"))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        for folder in (self.path.with_name(f"{self.path.name}.d"), Path(self.settings.pki)):
            shutil.rmtree(folder, ignore_errors=True)

    def inventory(self) -> dict[str, set[str]]:
        provider = open_provider(self.settings.uri)
        assert isinstance(provider, MemoryProvider)
        machines, folder = set(provider.state.read()), provider.state.folder
        provider.close()
        siblings = {p.name for p in self.path.parent.iterdir()}
        return {
            "machines": machines,
            "files": {p.name.removesuffix(".json") for p in folder.glob("disks/*")},
            "volumes": {p.name for p in folder.glob("volumes/*")},
            "locks": {
                p.name for p in folder.rglob("*.lock") if not {"disks", "volumes"} & set(p.parts)
            },
            "secrets": self.secrets(),
            "rest": (siblings - {self.path.name, f"{self.path.name}.d", "pki"})
            | {p.name for p in folder.glob("branches/*")},
        }


class LibvirtBench(CrashBench):
    """libvirt's session, with a template that is kept from run to run."""

    def clear(self) -> None:
        with self.settings.open() as yard:
            yard.teardown(volumes=True)
            yard.reap(grace=0)
        shutil.rmtree(
            Path(self.settings.pki) / self.settings.owner / "default" / "leases", ignore_errors=True
        )

    def wait_until_running(self, host: str) -> None:
        import libvirt

        connection = libvirt.open(self.settings.uri)
        try:
            domain = connection.lookupByName(f"{self.settings.owner}.default.{host}")
            end = time.monotonic() + RECOVERY
            while domain.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
                assert time.monotonic() < end, f"host {host} does not run"
                time.sleep(0.02)
            # The process that switches the disks over may still end.
            time.sleep(RECOVERY)
            assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        finally:
            connection.close()

    def inventory(self) -> dict[str, set[str]]:
        import libvirt

        from stockyard.providers.libvirt.processes import running

        connection = libvirt.open(self.settings.uri)
        domains = {d.UUIDString(): d.name() for d in connection.listAllDomains()}
        connection.close()
        store = Path(str(self.settings.storage))
        folders = {p for kind in ("hosts", "templates") for p in (store / kind).iterdir()}
        return {
            "machines": {
                name for name in domains.values() if name.startswith(f"{self.settings.owner}.")
            },
            "files": {p.name for p in folders if self._ours(p)},
            "volumes": {p.name for p in (store / "volumes").glob("*") if self._volume_of_ours(p)},
            "locks": {p.name for p in (store / "locks").iterdir()},
            "secrets": self.secrets(),
            "rest": {p.name for p in (store / "images").glob("work-*")}
            | {p.name for p in (store / "branches").glob("*")}
            | unused_layers(store)
            | {
                f"QEMU {uuid}"
                for uuid, pid in running().items()
                if uuid not in domains and self._runs_ours(pid)
            },
        }

    def _ours(self, folder: Path) -> bool:
        """Return whether an object has this owner, or none."""
        try:
            ownership.read(
                folder / "owner.json", self.settings.uri, self.settings.owner, folder.name
            )
        except InvalidInput as error:
            return "another owner" not in str(error)
        return True

    def _volume_of_ours(self, folder: Path) -> bool:
        """Return whether an object has this owner, or none."""
        record = folder / "volume.json"
        return (
            not record.exists()
            or decode_volume(json.loads(record.read_text())["record"]).owner == self.settings.owner
        )

    def _runs_ours(self, pid: int) -> bool:
        """Whether a QEMU runs a machine of this owner."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return f"guest={self.settings.owner}.".encode() in command


def unused_layers(store: Path) -> set[str]:
    """Return the layers of branches that are under no disk of a host."""
    layers = {str(path) for path in (store / "disk-layers").glob("*")}
    for disk in store.glob("hosts/*/*.qcow2") if layers else ():
        line = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", str(disk)]
        chain = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
        layers -= {image["filename"] for image in chain}
    return layers


def seeds(count: int) -> list[int]:
    """Return the seeds of this run: those to replay, or new ones."""
    replay = os.environ.get(REPLAY)
    if replay:
        return [int(word) for word in replay.replace(",", " ").split()]
    # Where a run has several processes they agree on it: pytest-xdist gives them one number.
    # no secret
    begin = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(1, 10**6) * 100  # noqa: S311
    return list(range(begin, begin + count))


@pytest.fixture(scope="module")
def benches() -> Iterator[dict[str, CrashBench]]:
    """Those that were asked for so far; nothing is left on them at the end."""
    opened_benches: dict[str, CrashBench] = {}
    yield opened_benches
    with prepare.session():
        for bench in opened_benches.values():
            bench.clear()


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    benches: dict[str, CrashBench],
    tmp_path_factory: pytest.TempPathFactory,
) -> CrashBench:
    """The hypervisor under test."""
    name: str = request.param
    if name not in benches:
        benches[name] = (
            memory(tmp_path_factory.mktemp("crash")) if name == "memory" else libvirt_session()
        )
    return benches[name]


def memory(folder: Path) -> MemoryBench:
    """A memory hypervisor in a directory."""
    settings = YardSettings(
        f"memory://{folder}/hypervisor",
        None,
        str(folder / "pki"),
        "crash",
        TemplateSpec("docker"),
        keep=False,
        size=3,
        guests=False,
    )
    return MemoryBench(settings, by_time=False)


def libvirt_session() -> LibvirtBench:
    """libvirt's session, with a yard and a storage that the end-to-end tests do not use."""
    from tests.e2e.conftest import TEMPLATE

    if os.geteuid() == 0:
        pytest.skip("libvirt's session is for ordinary users: run `make test`, which drops to one")
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed: run `make setup`")
    prepare.wait()
    prepare.link_images()
    settings = YardSettings(
        "qemu:///session",
        str(prepare.APART),
        str(prepare.WORK / "pki"),
        prepare.owner_apart(),
        TEMPLATE,
        keep=True,
        size=2,
        guests=True,
    )
    bench = LibvirtBench(settings, by_time=True)
    bench.clear()
    with settings.open() as yard:
        # Objects of an earlier version of this checkout.
        yard.templates.apply(TEMPLATE)
        yard.templates.prune()
    return bench
