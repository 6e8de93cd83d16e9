# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory provider: the port, assembled from its parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...clock import Deadline
from ...errors import (
    Conflict,
    HypervisorError,
    InvalidInput,
    NotFound,
    OperationRefused,
    Unsupported,
)
from ...hypervisor.branch_store import BranchStore
from ...hypervisor.capabilities import Capabilities
from ...hypervisor.facts import MachineFacts, PoolFacts
from ...hypervisor.guest_clock import NoGuestClock
from ...hypervisor.provider import Channel, Progress
from ...hypervisor.records import encode
from ...hypervisor.template_files import TemplateFiles
from ...hypervisor.turns import Unlimited
from ...model import codec, publication
from ...model.host import MODES, SUSPENDED, Host, HostRecord, HostSpec
from ...model.image import BuildOptions, ImageSpec
from ...model.network import USER_NETWORK, GuestNetwork, PublishSpec, bound
from ...model.observation import (
    Observation,
    OrphanedFile,
    R,
    Record,
    SweepResult,
    Template,
    UnreadableObject,
)
from ...model.platform import Drift, Platform, compare
from ...model.recipe import Recipe
from ...model.size import Size
from ...model.template import Hardware, TemplateRecord
from ..common import locks
from ..common.locks import held
from ..common.pool_files import FilePoolStore
from ..common.queue_files import FileQueues
from ..common.resumable import require
from ..common.stored_records import compare_and_set
from .branches import MemoryBranches
from .disks import Disks
from .machines import (
    check_free,
    check_frozen,
    check_published,
    check_unused,
    find,
    hosts_of,
    list_machines,
)
from .mirror import Mirror
from .state import Machine, StateFile
from .template_files import MemoryTemplateFiles
from .volumes import MemoryVolumes

# The platform of a memory hypervisor, unless a test writes another one to ``platform.json``.
PLATFORM = Platform("1.0", "simulated-1.0", "tcg", "simulated", ("fast",), "6.1.0", "0x1")
NO_LIMITS = PoolFacts("admission", "the memory hypervisor has no machines to limit", None)


class MemoryProvider(NoGuestClock):
    """Hypervisor in a file. Several processes and threads can use one file at the same time."""

    def __init__(self, uri: str, path: Path) -> None:
        self.uri = uri
        self.site = f"memory {path.resolve()}"
        self.capabilities = Capabilities(
            modes=MODES,
            parallel=2,
            endpoints=False,
            resizes=True,
            volumes=True,
            suspends=True,
            derives=True,
            branches_volumes=True,
            freezes_hosts=True,
            container_ports=True,
            settle=0.0,
        )
        self.state = StateFile(path)
        self.disks = Disks(self.state.folder / "disks", uri)
        self.mirror = Mirror(self.state.folder)
        self.pools = FilePoolStore(self.state.folder / "pools", self._reserving, lambda: NO_LIMITS)
        self.turns = Unlimited()
        self.queues = FileQueues(lambda: self.state.folder / "locks")
        self.volumes = MemoryVolumes(self.state, uri)
        self._template_files = MemoryTemplateFiles(self.state, self.disks, self.mirror, self._drift)
        self._branches = MemoryBranches(self.state, self.disks, self.volumes)

    @property
    def branches(self) -> BranchStore:
        return self._branches

    @property
    def template_files(self) -> TemplateFiles:
        return self._template_files

    def close(self) -> None:
        self.state.close()

    def preflight(self) -> list[str]:
        return []

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        return held(self.state.folder / "locks", name, deadline)

    def capacity(self) -> Size:
        return Size()

    def observe(self, owner: str) -> Observation:
        volumes = self.volumes.observe(owner)
        pools, unreadable = self.pools.read()
        machines = self.state.read()
        entries = list(list_machines(machines))
        own_entries = [
            (record, machine)
            for record, machine in entries
            if not isinstance(record, UnreadableObject) and record.owner == owner
        ]
        return Observation(
            templates=tuple(
                Template(record, self._problem(record), self._drift(record))
                for record, _machine in own_entries
                if isinstance(record, TemplateRecord)
            ),
            hosts=tuple(
                Host(record, machine.state)
                for record, machine in own_entries
                if isinstance(record, HostRecord)
            ),
            unreadable=(
                *(record for record, _machine in entries if isinstance(record, UnreadableObject)),
                *unreadable,
            ),
            addresses=frozenset(
                record.address for record, _machine in entries if isinstance(record, HostRecord)
            ),
            names=frozenset(machines),
            pools=tuple(pool for pool in pools if pool.owner == owner),
            volumes=volumes,
        )

    def ensure_image(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        return self.mirror.build(recipe)

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        return self.mirror.resolve(recipe)

    def versions(self, image: str) -> dict[str, str]:
        return self.mirror.versions(image)

    def check_template(self, hardware: Hardware, name: str) -> None:
        return

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        with self.state.change() as machines:
            check_free(machines, record)
            machines[record.domain] = Machine(encode(record))

    def derive_template(
        self, record: TemplateRecord, parent: TemplateRecord, deadline: Deadline
    ) -> None:
        with self.state.change() as machines:
            source = check_frozen(machines, parent)
            require(parent, self._drift(parent))
            check_free(machines, record)
            self.disks.copy(source, record)
            machines[record.domain] = Machine(encode(record), state="running")

    def fetch_difference(
        self,
        image: ImageSpec,
        build: BuildOptions,
        installed: str,
        folder: Path,
        deadline: Deadline,
    ) -> dict[str, str]:
        return self.mirror.resolve(Recipe(image.suite, image.packages, {}, {}, 0))

    def template_network(self, record: TemplateRecord) -> GuestNetwork:
        return USER_NETWORK

    def reach(
        self, record: TemplateRecord, deadline: Deadline
    ) -> AbstractContextManager[tuple[str, int]]:
        raise Unsupported("the memory hypervisor has no machines to connect to.", name=record.title)

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        if not self._running(record):
            raise HypervisorError("only a running machine can be frozen.", name=record.title)
        self.stop(record, deadline)
        return self.claim(
            record,
            phase="frozen",
            checksums={"record": codec.digest(record)},
            platform=self._platform(),
        )

    def check_host(
        self, spec: HostSpec, template: TemplateRecord | None, deleted: list[HostRecord], count: int
    ) -> None:
        if template:
            check_frozen(self.state.read(), template)
            require(template, self._drift(template), "linked")
        held = frozenset().union(*(record.published for record in deleted))
        if published := bound(spec.bind, spec.ports, held):
            check_published("", published, self.state.read())

    def free_ports(self, publish: PublishSpec, count: int) -> tuple[int, ...]:
        records = (record for record, _machine in list_machines(self.state.read()))
        return publish.free_ports(count, publication.bindings_of(records))

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        return ""

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        return USER_NETWORK

    def create_host(self, record: HostRecord, template: TemplateRecord) -> HostRecord:
        with self.state.change() as machines:
            find(machines, template)
            if record.spec.publish:
                records = (other_record for other_record, _machine in list_machines(machines))
                record = publication.with_ports(record, publication.bindings_of(records))
            check_free(machines, record)
            self.pools.check_quota(record, hosts_of(machines))
            machines[record.domain] = Machine(encode(record))
        return record

    def fork(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        with self.state.change() as machines:
            source, (machine, _host) = check_frozen(machines, template), find(machines, host)
            require(template, self._drift(template), mode)
            if machine.state == "running":
                raise Conflict("the machine of the host is already running.", name=host.title)
            self.disks.remove(host)
            self.disks.copy(source, host)
            backing = "" if mode == "full" else source.uuid
            machines[host.domain] = replace(machine, state="running", link=False, backing=backing)

    def check_start(self, record: HostRecord) -> None:
        return

    def start(self, record: Record, deadline: Deadline) -> str:
        # Programs that only read need no agent.
        from .guest import boot

        with self.state.change() as machines:
            machine, _record = find(machines, record)
            if machine.state != "running":
                if machine.state not in ("paused", SUSPENDED):
                    root = self.disks.make(record)
                    boot(root, lambda: self.volumes.in_machine(machine.volumes, root))
                machines[record.domain] = replace(machine, state="running", link=False)
        return ""

    def stop(self, record: Record, deadline: Deadline) -> None:
        self._set(record, state="off", link=False)

    def check_suspend(self, records: Sequence[HostRecord]) -> None:
        return

    def suspend(self, record: HostRecord, deadline: Deadline) -> None:
        with self.state.change() as machines:
            machine, _record = find(machines, record)
            if machine.state == SUSPENDED:
                return
            if machine.state not in ("running", "paused"):
                raise OperationRefused(
                    f"the host is {machine.state}, and only a running host can be suspended.",
                    name=record.title,
                    remedy="start the host",
                )
            machines[record.domain] = replace(machine, state=SUSPENDED, link=False)

    def resize(self, record: HostRecord, size: Size, deadline: Deadline) -> None:
        if not self._running(record):
            raise HypervisorError("the machine of the host is not running.", name=record.title)

    def publish(self, record: HostRecord, ports: Sequence[int], bind: str) -> HostRecord:
        spec = replace(record.spec, ports=tuple(sorted(ports)), bind=bind if ports else "")
        added = replace(record, spec=spec).published - record.published
        with self.state.change() as machines:
            _machine, current = find(machines, record)
            changed = compare_and_set(record, current, spec=spec)
            remaining = dict(machines)
            del remaining[record.domain]
            check_published(record.title, added, remaining)
            machines[record.domain] = replace(machines[record.domain], record=encode(changed))
        return changed

    def set_link(self, record: Record, up: bool) -> None:
        if not self._running(record):
            raise HypervisorError("the machine of the host is not running.", name=record.title)
        self._set(record, link=up)

    def uplink(
        self, record: HostRecord, deadline: Deadline
    ) -> AbstractContextManager[Callable[[], bool]]:
        return nullcontext(lambda: False)

    def follow_ports(self, record: HostRecord, line: Sequence[str], deadline: Deadline) -> bool:
        return False

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        if not self._running(record):
            raise HypervisorError(
                "the machine of the host is not running, so it has no channel.", name=record.title
            )
        from .guest import AgentChannel

        return AgentChannel(
            record.title,
            self.disks.path(record),
            lambda: self._running(record),
            lambda: self._plugged(record),
        )

    def claim(self, record: R, **changes: Any) -> R:
        with self.state.change() as machines:
            self.pools.check_growth(record, changes, lambda: hosts_of(machines))
            machine, current = find(machines, record)
            changed = compare_and_set(record, current, **changes)
            machines[record.domain] = replace(machine, record=encode(changed))
        return changed

    def destroy(self, record: Record) -> None:
        with self.state.change() as machines:
            if isinstance(record, TemplateRecord):
                check_unused(machines, record)
                self._branches.refuse_if_used(record)
            try:
                find(machines, record)
            except NotFound:
                return
            # The disk is deleted first, so that a machine that is half deleted still has a record.
            self.disks.remove(record)
            del machines[record.domain]
        self._branches.prune(record.owner)

    def keep_log(self, record: Record) -> str:
        return ""

    def prune_images(
        self,
        older_than: float,
        own: frozenset[str] = frozenset(),
        *,
        check: bool = False,
        ignored: frozenset[str] = frozenset(),
    ) -> list[str]:
        with self.state.change() as machines:
            records = [record for record, _machine in list_machines(machines)]
            if any(isinstance(record, UnreadableObject) for record in records):
                return []
            return self.mirror.prune(
                {
                    template.image
                    for template in records
                    if isinstance(template, TemplateRecord) and template.uuid not in ignored
                },
                older_than,
                own,
                check=check,
            )

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        if not self.state.folder.exists():
            return SweepResult((), ())
        # The lock of all changes is held: no other process creates a disk or writes the state file.
        with self.state.change() as machines:
            texts = [f"{machine.record} {machine.backing}" for machine in machines.values()]
            unreadable = any(
                isinstance(record, UnreadableObject) for record, _machine in list_machines(machines)
            )
            if not check:
                self._branches.prune_locked(owner, machines)
            result = self.disks.sweep(owner, older_than, texts, unreadable, check=check)
            lock_files = locks.free(self.state.folder / "locks", owner, remove=not check)
            lock_files += self.state.unfinished_files(remove=not check)
        return replace(
            result,
            removed=(
                *result.removed,
                *(OrphanedFile(str(path), "no process holds the lock") for path in lock_files),
            ),
        )

    def facts(self, record: Record) -> MachineFacts:
        return MachineFacts(storage=str(self.state.folder))

    @contextmanager
    def _reserving(self) -> Iterator[list[HostRecord]]:
        with ExitStack() as stack:
            yield hosts_of(stack.enter_context(self.state.change()))

    def _problem(self, record: TemplateRecord) -> str:
        return (
            "its disk is missing"
            if record.phase == "frozen" and not self.disks.path(record).exists()
            else ""
        )

    def _platform(self) -> Platform:
        path = self.state.folder / "platform.json"
        if not path.exists():
            return PLATFORM
        return codec.from_dict(Platform, json.loads(path.read_text(encoding="utf-8")))

    def _drift(self, record: TemplateRecord) -> tuple[Drift, ...]:
        has_named_model = bool(record.hardware.cpu.model)
        return compare(record.platform, self._platform(), has_named_model=has_named_model)

    def _running(self, record: Record) -> bool:
        return find(self.state.read(), record)[0].state == "running"

    def _plugged(self, record: Record) -> dict[str, Path]:
        volumes = find(self.state.read(), record)[0].volumes
        return self.volumes.in_machine(volumes, self.disks.path(record))

    def _set(self, record: Record, **changes: Any) -> None:
        with self.state.change() as machines:
            machines[record.domain] = replace(find(machines, record)[0], **changes)


def open_provider(uri: str) -> MemoryProvider:
    """Open ``memory:///absolute/file``. The first change creates the file."""
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if (
        parts.netloc
        or parts.query
        or parts.fragment
        or not path.is_absolute()
        or not path.name
        or "\0" in str(path)
    ):
        raise InvalidInput(
            f"{uri!a} does not contain an absolute path.", remedy="write memory:///directory/file"
        )
    return MemoryProvider(uri, path)
