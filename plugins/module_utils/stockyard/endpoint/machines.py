# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port to the virtual machines of an endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..guest.security.reader.streams import Peer
from ..model.size import Size
from .named_volumes import VolumeStore
from .sizes import Demand

# The image host among the machines.
IMAGE_HOST = "image host"
# The states of a machine. One that does not exist has the state GONE.
RUNNING, GONE = "running", "gone"


@dataclass(frozen=True)
class Fork:
    """A request for a container machine.

    :param container: the name of the container that it is forked for; empty for a spare or a
        build.
    :param ports: the TCP ports that the hypervisor publishes.
    :param demand: the limits of the container.
    :param builds: whether it is for a build.
    """

    container: str
    ports: tuple[int, ...] = ()
    demand: Demand = field(default_factory=Demand)
    builds: bool = False


@dataclass(frozen=True)
class Machine:
    """A container machine, as its record describes it.

    :param name: its name on the hypervisor.
    :param facts: the facts of the endpoint in its record.
    :param state: ``running``, or another state of a host.
    :param containers: the facts of its containers, as :meth:`Snapshots.pack` wrote them.
    """

    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    state: str = RUNNING
    containers: str = ""


@dataclass(frozen=True)
class BoundSocket:
    """The socket of the endpoint, which containers can bind.

    :param names: the paths by which clients name the socket.
    :param path: its path in each machine.
    """

    names: frozenset[str]
    path: str


class Machines(Protocol):
    """The machines of one endpoint. The image host exists before the endpoint starts."""

    # The id of the endpoint, which clients see as that of the engine.
    id: str
    title: str

    @property
    def volumes(self) -> VolumeStore:
        """Return the named volumes of the endpoint."""

    @property
    def socket(self) -> BoundSocket | None:
        """Return the socket that containers can bind; ``None`` if none can."""

    async def open_socket(self, name: str) -> None:
        """Let the socket in a running machine lead to the endpoint.

        :raises StockyardError: if the machine does not accept it.
        """

    async def all(self) -> list[Machine]:
        """Return the container machines, without the image host."""

    async def builds_apart(self) -> bool:
        """Return whether a build needs a machine of its own, because containers are not trusted."""

    async def renew_generation(self) -> None:
        """Freeze the image host as it is now: later forks have its present images."""

    def free_port(self, ports: Iterable[int]) -> int:
        """Return the first of some TCP ports that no program uses on the hypervisor now; 0 is any
        port.

        :raises OSError: if there is none.
        """

    async def fork(self, request: Fork) -> Machine:
        """Create a container machine from the current generation. Docker in it answers.

        :raises StockyardError: if the pool or the hypervisor has no room.
        """

    async def keep(self, name: str) -> bool:
        """Note that a machine without a container is needed. Return whether it runs."""

    async def note(self, name: str, facts: Mapping[str, str], containers: str) -> None:
        """Add facts to the record of a machine, and replace those of its containers."""

    async def resize(self, name: str, demand: Demand) -> None:
        """Resize a running machine, so that the limits of all its containers fit into it.

        :raises StockyardError: if the pool or the hypervisor has no room.
        """

    async def capacity(self) -> Size:
        """Return the processors and the memory that the machines share; 0 if not known."""

    async def suspend(self, name: str) -> None:
        """Let a machine use no RAM: save its memory, or shut it down if that is impossible."""

    async def wake(self, name: str) -> None:
        """Resume or boot a machine that does not run. Docker in it answers.

        :raises NotFound: if the machine does not exist.
        """

    def ports(self, name: str) -> frozenset[int]:
        """Return the TCP ports of a machine that the hypervisor publishes."""

    async def set_ports(self, name: str, ports: frozenset[int]) -> None:
        """Replace the published ports of a machine.

        :raises StockyardError: if a port is in use, or the hypervisor publishes no ports.
        """

    async def delete(self, name: str) -> None:
        """Delete a container machine. A machine that does not exist is no error."""

    async def state(self, name: str) -> str:
        """Return the state of a container machine."""

    async def connect(self, name: str) -> Peer:
        """Open a line to Docker in a machine.

        :param name: the name of the machine, or ``IMAGE_HOST``.
        :raises OSError: if Docker in the machine does not answer.
        """

    async def close(self) -> None:
        """Release the generation. The machines stay."""
