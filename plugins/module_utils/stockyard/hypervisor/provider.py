# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port: what a hypervisor has to offer. Small on purpose; everything clever lives above it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ..clock import Deadline
from ..model.host import HostRecord, HostSpec
from ..model.image import BuildOptions
from ..model.network import GuestNetwork
from ..model.observation import Observation, R, Record, SweepResult
from ..model.recipe import Recipe
from ..model.size import Size
from ..model.template import TemplateRecord
from .capabilities import Capabilities
from .guest_clock import GuestClock
from .pool_store import PoolStore
from .volume_store import VolumeStore

Progress = Callable[[str], None]


class Channel(Protocol):
    """A private line to the agent in one guest."""

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send one message, wait for its answer.

        :raises GuestError: when the answer is an error, too long or not a JSON object.
        :raises DeadlineExceeded: when none comes.
        """

    def close(self) -> None:
        """Hang up."""


class Provider(Protocol):
    """A hypervisor. Methods that change something are idempotent or say what they found instead.

    :param site: the hypervisor and the storage on it, by which yards of one owner differ.
    """

    uri: str
    site: str
    capabilities: Capabilities
    guest_clock: GuestClock | None

    @property
    def pools(self) -> PoolStore:
        """Where its pools are kept."""

    @property
    def volumes(self) -> VolumeStore:
        """Its data disks; where it has none (``capabilities.volumes``), what says so."""

    def close(self) -> None:
        """Let go of the connection."""

    def preflight(self) -> list[str]:
        """What is in the way of a yard here, each in a line; nothing is changed. Empty when all is
        well.
        """

    def exclusive(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Hold a name for the length of a ``with`` block; freed when the holder dies.

        :raises Busy: when another controller still holds it at the deadline.
        """

    def observe(self, owner: str) -> Observation:
        """Read everything of one owner in a bounded number of calls. Never partial: it raises
        instead.
        """

    def ensure_image(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        """Have the image that the recipe makes of today's packages, built if it is not there;
        returns its digest.
        """

    def resolve(self, recipe: Recipe, build: BuildOptions, deadline: Deadline) -> dict[str, str]:
        """The version of every package that an image of the recipe would have if it were built now.
        Builds nothing.

        Empty where images are not built of packages.
        """

    def versions(self, image: str) -> dict[str, str]:
        """The version of every package in an image, by its digest; empty where that is
        not known.
        """

    def create_template(self, record: TemplateRecord, deadline: Deadline) -> None:
        """Make the disk of a template whose image is there, and put it on record. Does not start
        it.
        """

    def reach(
        self, record: TemplateRecord, deadline: Deadline
    ) -> AbstractContextManager[tuple[str, int]]:
        """For the length of a ``with`` block: where the SSH of a running template answers. It
        reaches nothing itself.

        :raises Unsupported: where templates cannot be reached.
        """

    def freeze(self, record: TemplateRecord, deadline: Deadline) -> TemplateRecord:
        """Freeze a running template for good; returns its record in phase ``frozen``."""

    def check_host(
        self, spec: HostSpec, template: TemplateRecord | None, gone: list[HostRecord], count: int
    ) -> None:
        """Refuse hosts that :meth:`create_host` and :meth:`fork` would refuse, before others are
        deleted for them.

        :param template: what they are forked from; ``None`` if it is not there yet.
        :param gone: hosts that are deleted first.
        :raises StockyardError: with the reason. Nothing is changed.
        """

    def host_address(self, spec: HostSpec, uuid: str) -> str:
        """An address that is free for a new host; another one at every call is no promise."""

    def guest_network(self, record: HostRecord) -> GuestNetwork:
        """What the guest of a host is told of its network."""

    def create_host(self, record: HostRecord, template: TemplateRecord) -> None:
        """Reserve name, address, published ports and room in its pool and put the host on record.
        Starts nothing.

        :raises Conflict: when one of them is taken, by a host of any owner.
        :raises PoolQuotaExceeded: when its pool, or one around it, has no room for it.
        """

    def fork(
        self, host: HostRecord, template: TemplateRecord, mode: str, deadline: Deadline
    ) -> None:
        """Make the machine of a reserved host and start it, its network link down.

        :raises Unsupported: when this mode cannot be had here; another may be tried.
        """

    def check_start(self, record: HostRecord) -> None:
        """Check whether a host that is off can be started; nothing is changed.

        :raises Conflict: if another program listens on one of its ports.
        :raises Refused: if it runs already, although the hypervisor reports that it is off.
        """

    def start(self, record: Record, deadline: Deadline) -> str:
        """Start a machine, or let a paused one go on, its network link down. Saved memory is
        resumed.

        :return: a warning about saved memory that was lost; usually empty.
        :raises GuestBroken: if the machine's disk is proven to be unusable. No other failure proves
            that.
        :raises Refused: if it runs already, although the hypervisor reports that it is off.
        """

    def stop(self, record: Record, deadline: Deadline) -> None:
        """Shut a machine down, by force when the guest does not follow."""

    def resize(self, record: HostRecord, size: Size, deadline: Deadline) -> None:
        """Plug into a running machine, or take out of it, what makes its size. What it has already
        is left as it is.

        :raises HypervisorError: when its guest keeps what it is to give back.
        """

    def set_link(self, record: Record, up: bool) -> None:
        """Connect or cut the guest's network link."""

    def channel(self, record: Record, deadline: Deadline) -> Channel:
        """Open the line to the guest's agent."""

    def claim(self, record: R, **changes: Any) -> R:
        """Compare and set: write the record with these fields changed, if nobody changed it
        meanwhile.

        :raises Conflict: when the version on record is not ``record.version``.
        """

    def destroy(self, record: Record) -> None:
        """Take away the machine, its disks and its record. Nothing there is a success.

        :raises Refused: for a template that living hosts refer to.
        """

    def keep_log(self, record: Record) -> str:
        """Keep the console log of a machine that is about to be taken away; returns where, or
        nothing.
        """

    def prune_images(self, older_than: float, own: frozenset[str] = frozenset()) -> list[str]:
        """Remove images that no template of any owner is made of; returns their names.

        :param older_than: seconds since an image was last asked for: a younger one may be for a
            template on its way.
        :param own: images of templates that the caller deleted: they go at any age.
        """

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        """Remove the files of one owner's that no object refers to, and locks that nobody holds.

        What is not proven to be his is left alone, and so is all where it cannot be seen what
        refers to what.

        :param older_than: seconds since a file was last changed: it may be part of something on its
            way.
        :param check: say what would go, and remove nothing.
        """

    def facts(self, record: Record) -> dict[str, Any]:
        """What is worth knowing of the machine beyond its record (console log, accelerator,
        sizes…).
        """
