# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaration of a nested Docker. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...model import codec, naming

MODES = ("rootless", "privileged")
# Keys that the container itself depends on: its addresses, its data directories, and the
# enforcement of its limits.
OURS = (
    "cgroup-parent",
    "containerd",
    "data-root",
    "exec-opts",
    "exec-root",
    "hosts",
    "pidfile",
    "storage-driver",
    "userns-remap",
)


@dataclass(frozen=True)
class NestedSpec:
    """Nested Docker.

    :param name: the name of the container.
    :param mode: ``rootless``, or ``privileged``, which is root of the host.
    :param memory_mib: the maximum memory of the job, its dockerd and the containers of that dockerd
        together, in MiB.
    :param cpus: the maximum CPU time of the same, in CPUs.
    :param pids: the maximum number of processes and threads of the same.
    :param disk_mib: the disk space for images, containers and files of the job, in MiB.
    :param config: the keys of the ``daemon.json`` in the container.
    """

    name: str = "nested"
    mode: str = field(default="rootless", metadata={"choices": MODES})
    memory_mib: int = 1024
    cpus: float = 1.0
    pids: int = 1024
    disk_mib: int = 4096
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        naming.name("container", self.name)
        naming.check_choices(self)
        # dockerd and containerd alone need about 130 MiB and 40 threads.
        naming.whole("memory_mib", self.memory_mib, 256, 1 << 22)
        naming.whole("pids", self.pids, 128, 1 << 22)
        naming.whole("disk_mib", self.disk_mib, 256, 1 << 24)
        if not 0.01 <= self.cpus <= 1024:
            raise InvalidInput(
                f"cpus: {naming.shown(self.cpus)} is not a number of CPUs.",
                remedy="set 0.01 to 1024",
            )
        reserved = sorted(set(OURS) & set(self.config))
        if reserved:
            raise InvalidInput(
                f"config: {reserved[0]} cannot be set.",
                cause="the container itself depends on this setting",
                remedy="omit the setting",
            )

    @property
    def digest(self) -> str:
        """Return a digest that differs between different declarations."""
        return codec.digest(self)
