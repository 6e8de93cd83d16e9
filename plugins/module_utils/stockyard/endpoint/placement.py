# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement: which machine a new container is created in, and whether it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .containers import Containers

_SHARED_MODES = ("NetworkMode", "IpcMode", "PidMode")
_LARGEST_PORT = 65535
# Clients compare what they sent with what Docker shows, so these stay as they are.
_ALL_ADDRESSES = ("", "0.0.0.0", "::")  # noqa: S104  # of the machine


def partners(config: dict[str, Any]) -> list[str]:
    """Return the references of the containers that a new one must share a machine with."""
    host = config.get("HostConfig") or {}
    references = [
        mode.partition(":")[2]
        for mode in (str(host.get(key) or "") for key in _SHARED_MODES)
        if mode.startswith("container:")
    ]
    references += [str(source).partition(":")[0] for source in host.get("VolumesFrom") or ()]
    references += [str(link).partition(":")[0] for link in host.get("Links") or ()]
    return references


def shared_machine(
    containers: Containers, config: dict[str, Any], required_machines: set[str]
) -> str:
    """Return the machine that a new container must be created in; empty for one of its own.

    :param required_machines: the machines of its networks and volumes.
    :raises Refusal: if it would have to be in two machines, or names no container.
    """
    shared_with = [containers.find(reference) for reference in partners(config)]
    machines = {container.machine for container in shared_with} | required_machines
    if len(machines) > 1:
        raise Refusal(
            "The containers that the new container shares volumes or networks with are in "
            "different machines. Create them in one common network.",
            HTTPStatus.NOT_IMPLEMENTED,
        )
    return machines.pop() if machines else ""


def check_config(config: dict[str, Any], socket: str = "") -> None:
    """Refuse a container that a machine cannot have, with the reason and a remedy.

    :param socket: the only file that can be bound.
    """
    host = config.get("HostConfig") or {}
    binds = [str(bind).split(":") for bind in host.get("Binds") or ()]
    sources = [parts[0] for parts in binds if len(parts) > 1]
    mounts = host.get("Mounts") or ()
    sources += [str(m.get("Source") or "") for m in mounts if m.get("Type") == "bind"]
    for source in sources:
        if source.startswith("/") and source != socket:
            raise Refusal(
                f"The directory {source} cannot be bound: the container is a virtual machine, and "
                "shares no files with the endpoint. Copy files with docker cp, or build them into "
                "an image."
            )


def publish(
    config: dict[str, Any],
    free_port: Callable[[Iterable[int]], int],
    image_ports: Iterable[str] = (),
) -> frozenset[int]:
    """Return the TCP ports of the machine that the container publishes. Ports that are left to
    Docker are chosen, and written into the configuration.

    :param free_port: returns the first of some ports of the hypervisor that no program uses.
    :param image_ports: the ports that the image exposes.
    :raises Refusal: if a port cannot be published.
    """
    host = config.get("HostConfig") or {}
    bindings = host.get("PortBindings") or {}
    if host.get("PublishAllPorts"):
        for exposed in (*image_ports, *(config.get("ExposedPorts") or {})):
            bindings.setdefault(exposed, [{}])
        host |= {"PublishAllPorts": False, "PortBindings": bindings}
    ports: set[int] = set()
    for exposed, targets in bindings.items():
        for target in targets or ():
            if str(exposed).partition("/")[2] not in ("", "tcp"):
                raise Refusal(
                    f"{exposed} cannot be published: this endpoint publishes TCP ports only.",
                    HTTPStatus.NOT_IMPLEMENTED,
                )
            text = str(target.get("HostPort") or "0")
            first, last = _range(exposed, text)
            port = first if first == last > 0 else _free(free_port, first, last)
            target["HostPort"] = str(port)
            # The hypervisor connects to the machine's own address.
            if target.get("HostIp") not in _ALL_ADDRESSES:
                target["HostIp"] = ""
            ports.add(port)
    return frozenset(ports)


def _range(exposed: str, text: str) -> tuple[int, int]:
    """Return the first and the last of the ports that one can be chosen from; 0 is any port."""
    numbers = [int(part) for part in text.split("-") if part.isascii() and part.isdigit()]
    is_range = len(numbers) == text.count("-") + 1 <= 2
    if not is_range or numbers[0] > numbers[-1] or numbers[-1] > _LARGEST_PORT:
        raise Refusal(f"Invalid hostPort: {text} for {exposed}")
    return numbers[0], numbers[-1]


def _free(free_port: Callable[[Iterable[int]], int], first: int, last: int) -> int:
    try:
        return free_port(range(first, last + 1))
    except OSError as error:
        raise Refusal(
            f"No port from {first} to {last} is free: {error}", HTTPStatus.CONFLICT
        ) from error
