# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port: the operations that a hypervisor must offer. Small on purpose; all other logic is above
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ..clock import Deadline
from ..model.host import HostRecord, HostSpec
from ..model.image import BuildOptions, ImageSpec
from ..model.network import GuestNetwork, PublishSpec
from ..model.observation import Observation, R, Record, SweepResult
from ..model.recipe import Recipe
from ..model.size import Size
from ..model.template import Hardware, TemplateRecord
from .branch_store import BranchStore
from .capabilities import Capabilities
from .facts import MachineFacts
from .guest_clock import GuestClock
from .pool_store import PoolStore
from .queues import Queues
from .template_files import TemplateFiles
from .turns import Turns
from .volume_store import VolumeStore

Progress = Callable[[str], None]


class Channel(Protocol):
    """A private line to the agent in one guest."""

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message and wait for its answer.

        :raises GuestError: if the answer is an error, too long or not a JSON object.
        :raises DeadlineExceeded: if no answer comes.
        """

    def close(self) -> None:
        """Close the line."""


class Provider(Protocol):
    """A hypervisor. Methods that change something are idempotent, or raise an error with the state
    that they observed.

    :param site: the hypervisor and its storage, which distinguish yards of one owner.
    """

    uri: str
    site: str
    capabilities: Capabilities
    guest_clock: GuestClock | None

    @property
    def branches(self) -> BranchStore:
        """Return the store of its branches."""

    @property
    def pools(self) -> PoolStore:
        """Return the store of its pools."""

    @property
    def queues(self) -> Queues:
        """Return the queues of waiting requests."""

    @property
    def turns(self) -> Turns:
        """Return the turns of machines that start."""

    @property
    def template_files(self) -> TemplateFiles:
        """Return the files of its templates; if templates cannot leave it, a store that reports
        that.
        """

    @property
    def volumes(self) -> VolumeStore:
        """Return the store of its data disks; if it has none (``capabilities.volumes``), a store
        that reports that.
        """

    def close(self) -> None:
        """Close the connection."""

    def preflight(self) -> list[str]:
        """Return the problems that prevent a yard on this hypervisor, each in a line; empty if
        there are none. Changes nothing.
        """

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Hold a named lock for the length of a ``with`` block; it is released if its holder dies.

        :raises Busy: if another controller still holds it at the deadline.
        """

    def capacity(self) -> Size:
        """Return the processors and the memory of the hypervisor; 0 for one that is not known."""

    def observe(self, owner: str) -> Observation:
        """Observe everything of one owner in a bounded number of calls, volumes before hosts. The
        result is never partial: an error is raised instead.
        """

    def ensure_image(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        """Return the digest of the image that the recipe makes from today's packages; the image is
        built if it does not exist.
        """

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        """Return the version of every package that an image of the recipe would have if it were
        built now. Builds nothing.

        Empty if images are not built from packages.
        """

    def versions(self, image: str) -> dict[str, str]:
        """Return the version of every package in an image, by its digest; empty if unknown."""

    def check_template(self, hardware: Hardware, name: str) -> None:
        """Refuse a machine that :meth:`create_template` would refuse, before its image is built.

        :param name: the template, for the error.
        :raises Unsupported: with the reason. Nothing is changed.
        """

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        """Create the disk of a template from its existing image, and record the template. Does not
        start it.
        """

    def derive_template(
        self, record: TemplateRecord, parent: TemplateRecord, deadline: Deadline
    ) -> None:
        """Create a template as a running fork of a frozen one, and record it. The fork has its own
        disk and memory: the parent can be deleted afterwards.

        :raises Unsupported: if templates cannot be derived (``capabilities.derives``).
        :raises ImageError: if the parent is damaged.
        """

    def fetch_difference(
        self,
        image: ImageSpec,
        build: BuildOptions,
        installed: str,
        folder: Path,
        deadline: Deadline,
    ) -> dict[str, str]:
        """Write the files for a derived template to a directory: in ``packages`` the declared
        packages and their dependencies that the guest lacks, and in ``preload`` the images.

        :param installed: the status file of the guest's packages.
        :return: the version of each package in the directory.
        :raises ImageError: if a package or an image is not available.
        """

    def template_network(self, record: TemplateRecord) -> GuestNetwork:
        """Return the network settings for the guest of a template that :meth:`reach` connects. An
        address that must be reserved for it stays reserved until the end of that access.

        :raises Conflict: if no address is free.
        """

    def reach(
        self, record: TemplateRecord, deadline: Deadline
    ) -> AbstractContextManager[tuple[str, int]]:
        """Return the address and port at which a running template answers SSH, for the length of a
        ``with`` block. The template itself reaches nothing.

        :raises Unsupported: if templates cannot be reached.
        """

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        """Freeze a running template permanently; return its record in phase ``frozen``."""

    def check_host(
        self, spec: HostSpec, template: TemplateRecord | None, deleted: list[HostRecord], count: int
    ) -> None:
        """Refuse hosts that :meth:`create_host` and :meth:`fork` would refuse, before other hosts
        are deleted for them.

        :param template: the template of the forks; ``None`` if it does not exist yet.
        :param deleted: hosts that are deleted first.
        :raises StockyardError: with the reason. Nothing is changed.
        """

    def free_ports(self, publish: PublishSpec, count: int) -> tuple[int, ...]:
        """Return the lowest ports at which a host could be published, at most ``count``. Nothing is
        reserved. Empty if the machines of this hypervisor have their own addresses.

        :raises Conflict: if the hypervisor does not have the address.
        """

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        """Return a free address for a new host. Nothing is reserved: another call can return
        another address.
        """

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        """Return the network settings for the guest of a host."""

    def create_host(self, record: HostRecord, template: TemplateRecord) -> HostRecord:
        """Reserve the name, the address, the published ports and the quota of a host, and record
        it; return its record, with the ports that were chosen for it. Starts nothing.

        :raises Conflict: if one of them is taken, by a host of any owner.
        :raises PoolQuotaExceeded: if its pool, or a parent of that, does not have enough quota.
        """

    def fork(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        """Create the machine of a reserved host and start it, its network link down.

        :raises Unsupported: if this mode is impossible on the hypervisor; another mode can be
            tried.
        """

    def check_start(self, record: HostRecord) -> None:
        """Check whether a host that is off can be started; nothing is changed.

        :raises Conflict: if another program listens on one of its ports.
        :raises OperationRefused: if it runs already, although the hypervisor reports that it is
            off.
        """

    def start(self, record: Record, deadline: Deadline) -> str:
        """Start a machine, or resume a paused one, its network link down. Saved memory is resumed.

        :return: a warning about saved memory that was lost; usually empty.
        :raises GuestBroken: if the machine's disk is proven to be unusable. No other failure proves
            that.
        :raises OperationRefused: if it runs already, although the hypervisor reports that it is
            off.
        """

    def stop(self, record: Record, deadline: Deadline) -> None:
        """Shut a machine down, by force if the guest does not follow."""

    def check_suspend(self, records: Sequence[HostRecord]) -> None:
        """Refuse running hosts that :meth:`suspend` would refuse; nothing is changed.

        :param records: the hosts that are suspended together.
        :raises OutOfSpace: if the storage lacks the space for their memory.
        :raises StockyardError: with another reason.
        """

    def suspend(self, record: HostRecord, deadline: Deadline) -> None:
        """Save the memory of a running machine in the storage, and end the machine: it uses no RAM
        and no CPU time until :meth:`start` resumes it. A machine that is suspended stays so.

        If the memory cannot be saved, or not in time, the machine continues to run.

        :raises OperationRefused: if the machine is off and has no saved memory.
        :raises DeadlineExceeded: if the memory is not saved in time.
        """

    def resize(self, record: HostRecord, size: Size, deadline: Deadline) -> None:
        """Plug vCPUs and memory into a running machine, or take them out, until it has a size.
        Parts that the machine already has are not changed.

        :raises HypervisorError: if the guest does not return what it must.
        """

    def publish(self, record: HostRecord, ports: Sequence[int], bind: str) -> HostRecord:
        """Replace the published ports of a machine, now and for every later start; return the
        changed record. Connections over ports that stay are not affected.

        :param bind: the address of the hypervisor that the ports are published on.
        :raises Conflict: if a port is in use.
        :raises Unsupported: if the machines of this hypervisor have their own addresses.
        """

    def set_link(self, record: Record, up: bool) -> None:
        """Connect or cut the guest's network link."""

    def uplink(
        self, record: HostRecord, deadline: Deadline
    ) -> AbstractContextManager[Callable[[], bool]]:
        """Begin to open the way out of a running host with egress ``open`` or ``allow`` if it is
        not open. The value is a function that connects it to the machine; the function returns
        whether it was opened now. Until then the host reaches nothing, and without this call the
        way out is closed with the context. The network of a host can be its way out, and then
        nothing is changed.

        :raises HypervisorError: if it cannot be opened, also from the function.
        """

    def follow_ports(self, record: HostRecord, line: Sequence[str], deadline: Deadline) -> bool:
        """Start the process that forwards the ports of a running host's containers if it does not
        run. It outlives the controller and ends with the machine. Return whether it was started.

        :param line: a command whose input and output lead to the relay in the guest.
        :raises HypervisorError: if the relay does not answer.
        """

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        """Open the line to the guest's agent."""

    def claim(self, record: R, **changes: Any) -> R:
        """Compare and set: write the record with these fields changed, unless another controller
        changed it first.

        :raises Conflict: if the version on record is not ``record.version``.
        """

    def destroy(self, record: Record) -> None:
        """Delete the machine, its disks and its record. A missing machine is a success.

        :raises OperationRefused: for a template that existing hosts refer to.
        """

    def keep_log(self, record: Record) -> str:
        """Save the console log of a machine before its deletion; return the path, or an
        empty text.
        """

    def prune_images(
        self,
        older_than: float,
        own: frozenset[str] = frozenset(),
        *,
        check: bool = False,
        ignored: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Delete images that no template of any owner was created from; return their names.

        :param older_than: seconds since the last use of an image: a more recent image can belong to
            a template that is being built.
        :param own: images of templates that the caller deleted: they are deleted at any age.
        :param check: whether the images are returned only.
        :param ignored: uuids of templates that count as deleted.
        """

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Delete the files of one owner that no object refers to, and locks that no controller
        holds.

        Files that are not proven to belong to the owner are skipped; if the references cannot be
        read, all files are skipped.

        :param older_than: seconds since the last change of a file: a more recent file can belong to
            an object that is being created.
        :param check: return the files that would be deleted, and delete nothing.
        """

    def facts(self, record: Record) -> MachineFacts:
        """Return the facts of the machine beyond its record."""
