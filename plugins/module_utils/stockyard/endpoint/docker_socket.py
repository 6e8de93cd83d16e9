# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket of the endpoint in containers: the only file of the endpoint that a container can
bind.
"""

from __future__ import annotations

from typing import Any

from ..guest.security.reader.grammar import Refusal
from .containers import Container
from .failures import explained
from .machine_life import MachineLife

# Where Docker's clients expect the socket of a daemon.
USUAL_PATHS = frozenset({"/var/run/docker.sock", "/run/docker.sock"})


class DockerSocket:
    """The socket of one endpoint in its containers."""

    def __init__(self, life: MachineLife) -> None:
        self.machines = life.machines
        self.life = life

    def redirect(self, config: dict[str, Any]) -> None:
        """Let the binds of the socket in the configuration of a new container lead to the socket in
        its machine.

        :raises Refusal: if containers cannot bind the socket.
        """
        host, socket = config.get("HostConfig") or {}, self.machines.socket
        names = socket.names | {socket.path} if socket else USUAL_PATHS
        if not _sources(host) & names:
            return
        if socket is None:
            raise Refusal(
                "The socket of the endpoint cannot be bound: a container with the socket controls "
                "the endpoint, and the declaration of the endpoint does not set "
                "socket_in_containers."
            )
        if host.get("Binds"):
            binds = [str(bind).partition(":") for bind in host["Binds"]]
            host["Binds"] = [
                f"{socket.path if source in names else source}{colon}{target}"
                for source, colon, target in binds
            ]
        for mount in host.get("Mounts") or ():
            if mount.get("Type") == "bind" and mount.get("Source") in names:
                mount["Source"] = socket.path

    async def open_for(self, container: Container) -> None:
        """Open the socket in the machine of a container that is about to start, if it has the
        socket.

        :raises Refusal: if the machine does not accept it.
        """
        await self.open_if_bound(container.machine, self.life.facts(container))

    async def open_if_bound(self, machine: str, config: dict[str, Any]) -> None:
        """Open the socket in a machine if a configuration binds it.

        :raises Refusal: if the machine does not accept it.
        """
        socket = self.machines.socket
        if socket and socket.path in _sources(config.get("HostConfig") or {}):
            with explained():
                await self.machines.open_socket(machine)


def _sources(host: dict[str, Any]) -> set[str]:
    """Return the files and directories that a container binds."""
    binds = [str(bind).partition(":") for bind in host.get("Binds") or ()]
    mounts = [mount for mount in host.get("Mounts") or () if mount.get("Type") == "bind"]
    return {source for source, colon, _target in binds if colon} | {
        str(mount.get("Source") or "") for mount in mounts
    }
