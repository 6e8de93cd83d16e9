# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host of a nested Docker: its state, and the nested Dockers that it therefore cannot support.
Changes nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput, MissingDependency, NotFound, OperationRefused
from ...model import untrusted
from ..audit import settings_of
from ..machine import Machine
from .spec import NestedSpec

PATIENCE = 60.0
# Programs, and the Debian packages that contain them.
PROGRAMS = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "mkfs.ext4": "e2fsprogs",
    "tini": "tini",
}
ROOTLESS = {
    "rootlesskit": "rootlesskit",
    "slirp4netns": "slirp4netns",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
}
CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
# Kernel settings: the value that forbids user name spaces to ordinary users, and the value that
# permits them.
SHUT = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}


@dataclass(frozen=True)
class Outer:
    """State of the host.

    :param profile: the profile of the host's security; ``trusted`` for a host that declares none.
    :param users: ``none``, ``remap`` or ``rootless``: the user name spaces of its dockerd.
    :param first: the user ID on the host of root in a container.
    :param plugins: the authorization plugins of its dockerd.
    :param cpus: the number of CPUs.
    :param memory: the memory in bytes.
    """

    profile: str
    users: str
    first: int
    plugins: tuple[str, ...]
    cpus: int
    memory: int


def look(machine: Machine) -> Outer:
    """Return the state of this host.

    :raises OperationRefused: if its Docker does not answer.
    """
    process = machine.programs(["docker", "info", "--format", "{{json .}}"], PATIENCE)
    info = _parsed(process.out)
    if process.code or not info.get("ID"):
        raise OperationRefused(
            "the Docker of the host does not answer.",
            name="docker",
            cause=process.err.strip()[-300:],
            remedy="start Docker, and run again as root",
        )
    names = {
        str(option).removeprefix("name=").partition(",")[0]
        for option in info.get("SecurityOptions") or ()
    }
    users = "rootless" if "rootless" in names else "remap" if "userns" in names else "none"
    plugins = (info.get("Plugins") or {}).get("Authorization") or ()
    return Outer(
        _profile(machine),
        users,
        _first(info) if users == "remap" else 0,
        tuple(map(str, plugins)),
        int(info.get("NCPU") or 0),
        int(info.get("MemTotal") or 0),
    )


def refuse(machine: Machine, spec: NestedSpec, outer: Outer) -> None:
    """Check that this host supports the nested Docker, and raise the reason if not.

    :raises OperationRefused: if the host does not support it.
    :raises MissingDependency: if a package is missing.
    """
    for program, package in (PROGRAMS | (ROOTLESS if spec.mode == "rootless" else {})).items():
        if not any(machine.stat(f"/usr/{directory}/{program}") for directory in ("bin", "sbin")):
            raise MissingDependency(
                f"{program} is not installed.",
                name=f"nested {spec.name}",
                remedy=f"install {package}, or add it to the template's packages",
            )
    if machine.read(CONTROLLERS) is None:
        raise _refused(
            spec,
            "the host has cgroups of version 1, which cannot be delegated",
            "boot the host with cgroups of version 2",
        )
    if outer.users == "rootless":
        raise _refused(
            spec,
            "the host's dockerd is rootless, and cannot delegate its cgroups to a container",
            "choose user_namespaces none or remap for the host",
        )
    if outer.plugins:
        raise _refused(
            spec,
            f"the plugin {outer.plugins[0]} refuses containers with more rights than others",
            "use a separate host for the job, with the profile trusted",
        )
    (_privileged if spec.mode == "privileged" else _rootless)(machine, spec, outer)


def refuse_size(machine: Machine, spec: NestedSpec, outer: Outer) -> None:
    """Check that the limits are not above the capacity of the host: such limits would have no
    effect.

    :raises OperationRefused: if a limit is above the capacity.
    """
    free = shutil.disk_usage(machine.root).free >> 20
    sizes = (
        ("cpus", spec.cpus, outer.cpus),
        ("memory_mib", spec.memory_mib, outer.memory >> 20),
        ("disk_mib", spec.disk_mib, free),
    )
    for option, limit, capacity in sizes:
        if limit > capacity:
            raise _refused(
                spec,
                f"{option} is {limit:g}, and the host has {capacity}",
                "request less, or use another host",
            )


def _privileged(_machine: Machine, spec: NestedSpec, outer: Outer) -> None:
    if outer.profile != "trusted":
        raise _refused(
            spec,
            f"this host's profile is {outer.profile}, and root of a privileged container is root "
            f"of the host",
            "choose mode rootless, or an exclusive host with the profile trusted",
        )
    if outer.users != "none":
        raise _refused(
            spec,
            "dockerd of this host remaps users, and then does not allow privileged containers",
            "choose mode rootless, or user_namespaces none",
        )


def _rootless(machine: Machine, spec: NestedSpec, _outer: Outer) -> None:
    for key, (shut, opened) in SHUT.items():
        if (machine.read("/proc/sys/" + key.replace(".", "/")) or "").strip() == shut:
            raise _refused(
                spec,
                f"{key} is {shut}, so ordinary users cannot create user namespaces",
                f"set sysctls: {{{key}: '{opened}'}} in the host's security, or choose the profile "
                f"trusted",
            )


def _refused(spec: NestedSpec, cause: str, remedy: str) -> OperationRefused:
    return OperationRefused(
        f"a {spec.mode} Docker cannot run in a container on this host.",
        name=f"nested {spec.name}",
        cause=cause,
        remedy=remedy,
    )


def _profile(machine: Machine) -> str:
    try:
        return settings_of(machine).profile
    except NotFound:
        return "trusted"


def _first(info: dict[str, Any]) -> int:
    """Return the first id of the map. With remap the name of Docker's directory contains it:
    ``100000.100000``.
    """
    owner = str(info.get("DockerRootDir", "")).rpartition("/")[2].partition(".")[0]
    if not owner.isdigit():
        raise InvalidInput("dockerd does not report its subordinate ids.", name="docker")
    return int(owner)


def _parsed(text: str) -> dict[str, Any]:
    try:
        info = untrusted.parse(text)
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}
