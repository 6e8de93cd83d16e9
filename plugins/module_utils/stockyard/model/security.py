# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The security of a host: three profiles, the settings that can differ from them, and impossible
combinations.

Pure: :mod:`..guest.security` implements the values inside a host.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InvalidInput
from . import naming
from .image import guest_path

PROFILES = ("trusted", "shared", "hostile")
USER_NAMESPACES = ("none", "remap", "rootless")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_*-]+)+")
_CPUS = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}\*?")


@dataclass(frozen=True)
class Limits:
    """The limits of containers. 0 (and empty text) is no limit.

    :param pids: processes of all containers together.
    :param memory_percent: memory of all containers together, in hundredths of the host's.
    :param cpu_percent: CPU time of all containers together, in hundredths of one CPU.
    :param cpus: the CPUs that containers run on, as ``0,2-3``; empty for all.
    :param read_mib: MiB per second that all containers together read from the disk.
    :param write_mib: the same for writing.
    :param network_mib: MiB per second that all containers together send.
    :param disk_percent: the part of the host's disk, and of its inodes, for images and containers,
        in hundredths.
    :param container_pids: processes of a container without a declared limit.
    :param container_memory_percent: memory of such a container, in hundredths of the host's.
    """

    pids: int = 0
    memory_percent: int = 0
    cpu_percent: int = 0
    cpus: str = ""
    read_mib: int = 0
    write_mib: int = 0
    network_mib: int = 0
    disk_percent: int = 0
    container_pids: int = 0
    container_memory_percent: int = 0

    def __post_init__(self) -> None:
        for limit in ("pids", "container_pids"):
            naming.whole(f"limits.{limit}", getattr(self, limit), 0, 1 << 22)
        for limit in ("memory_percent", "container_memory_percent"):
            naming.whole(f"limits.{limit}", getattr(self, limit), 0, 100)
        naming.whole("limits.disk_percent", self.disk_percent, 0, 90)
        naming.whole("limits.cpu_percent", self.cpu_percent, 0, 100 * 1024)
        for limit in ("read_mib", "write_mib", "network_mib"):
            naming.whole(f"limits.{limit}", getattr(self, limit), 0, 1 << 20)
        if self.cpus and not _is(_CPUS, self.cpus):
            raise InvalidInput(
                f"limits.cpus: {naming.shown(self.cpus)} is not a list of CPUs.",
                remedy="write a list such as 0,2-3",
            )


@dataclass(frozen=True)
class Policy:
    """The requests that the authorization plugin allows in addition to harmless ones.

    :param mounts: paths of the host that containers can mount, exactly these; a path below one is
        another path.
    :param images: images that can be pulled and run; a ``*`` at the end stands for any text. Empty:
        all.
    :param by_digest: whether images must be named by their digest.
    :param build: whether images can be built. No plugin sees the whole request, so a build is
        refused anyway without ``remap``.
    """

    mounts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    by_digest: bool = False
    build: bool = True

    def __post_init__(self) -> None:
        for path in self.mounts:
            guest_path(path)
        for image in self.images:
            if not _is(_IMAGE, image):
                raise InvalidInput(
                    f"policy.images: {naming.shown(image)} is not an image.",
                    remedy="write name, name:tag, name@sha256:…, or a prefix and *",
                )


@dataclass(frozen=True)
class Settings:
    """The effective settings of a host, with a value for every setting.

    :param no_new_privileges: no container gains privileges by a set-uid program.
    :param icc: containers on Docker's default network reach each other.
    :param kernel: sysctls that a shared kernel should have, and no seldom used protocols.
    :param audit: the kernel's audit, with rules for Docker's files.
    :param policy: the requests that the authorization plugin allows; ``None`` without a plugin.
    :param sysctls: kernel settings in addition to the profile's, which they override.
    :param seccomp: a seccomp profile for all containers as JSON text; empty for Docker's own.
    :param encrypted_data: every volume of a host is encrypted.
    """

    profile: str
    user_namespaces: str
    no_new_privileges: bool
    icc: bool
    kernel: bool
    firewall: bool
    audit: bool
    policy: Policy | None = None
    limits: Limits = field(default_factory=Limits)
    sysctls: dict[str, str] = field(default_factory=dict)
    seccomp: str = ""
    encrypted_data: bool = False

    @property
    def starts_proxies(self) -> bool:
        """Return whether dockerd runs as root and starts docker-proxy for each published port."""
        return self.profile == "trusted" and self.icc and self.user_namespaces != "rootless"


_OPEN = Settings(
    "trusted", "none", no_new_privileges=False, icc=True, kernel=False, firewall=False, audit=False
)
_SHARED = Settings(
    "shared",
    "remap",
    no_new_privileges=True,
    icc=False,
    kernel=True,
    firewall=True,
    audit=False,
    limits=Limits(pids=4096, memory_percent=80, container_pids=1024, disk_percent=60),
)
_HOSTILE = replace(
    _SHARED,
    profile="hostile",
    audit=True,
    policy=Policy(),
    limits=Limits(
        pids=2048,
        memory_percent=75,
        container_pids=512,
        container_memory_percent=50,
        network_mib=64,
        disk_percent=60,
    ),
)
DEFAULTS = {settings.profile: settings for settings in (_OPEN, _SHARED, _HOSTILE)}
# The settings that can differ from the profile.
CHANGES = (
    "user_namespaces",
    "no_new_privileges",
    "icc",
    "kernel",
    "firewall",
    "audit",
    "authorization",
    "seccomp",
    "sysctls",
    "limits",
    "policy",
    "encrypted_data",
)


@dataclass(frozen=True)
class SecuritySpec:
    """A profile, and the settings that differ from it. ``None`` is the profile's own value.

    :param profile: ``trusted`` (a machine of a single user: privileged containers work), ``shared``
        (users without bad intentions share it) or ``hostile`` (its users try to break out).
    :param user_namespaces: ``none``, ``remap`` (the root of containers is no root of the host) or
        ``rootless`` (dockerd itself is an ordinary user).
    :param authorization: whether an authorization plugin checks each request.
    :param encrypted_data: whether the volumes of its hosts are encrypted; with ``docker: stopped``.
    :param limits: single limits of :class:`Limits`; the others stay the profile's.
    """

    profile: str = field(default="trusted", metadata={"choices": PROFILES})
    user_namespaces: str | None = field(default=None, metadata={"choices": USER_NAMESPACES})
    no_new_privileges: bool | None = None
    icc: bool | None = None
    kernel: bool | None = None
    firewall: bool | None = None
    audit: bool | None = None
    authorization: bool | None = None
    seccomp: str = ""
    sysctls: dict[str, str] | None = None
    limits: dict[str, Any] | None = None
    policy: Policy | None = None
    encrypted_data: bool = False

    def __post_init__(self) -> None:
        naming.check_choices(self, "security.")
        for key, value in (self.sysctls or {}).items():
            if not _is(_SYSCTL, key):
                raise InvalidInput(
                    f"security.sysctls: {naming.shown(key)} is not a kernel setting.",
                    remedy="write a name such as a.b.c",
                )
            naming.line(f"security.sysctls {key}", value)
        _check_seccomp(self.seccomp)
        _refuse_impossible(self.settings())

    def settings(self) -> Settings:
        """Return the profile with the changes applied."""
        base = DEFAULTS[self.profile]
        names = ("user_namespaces", "no_new_privileges", "icc", "kernel", "firewall", "audit")
        overrides = {name: value for name in names if (value := getattr(self, name)) is not None}
        has_plugin = base.policy is not None if self.authorization is None else self.authorization
        if self.policy and not has_plugin:
            raise InvalidInput(
                "security.policy is set, but authorization is off, so the policy would not "
                "be enforced.",
                remedy="set authorization to true as well",
            )
        rootless = self.user_namespaces == "rootless" and self.authorization is None
        policy = (
            (self.policy or base.policy or Policy())
            if has_plugin and not (rootless and not self.policy)
            else None
        )
        return replace(
            base,
            **overrides,
            policy=policy,
            limits=self._limits(base),
            sysctls=dict(self.sysctls or {}),
            seccomp=self.seccomp,
            encrypted_data=self.encrypted_data,
        )

    def _limits(self, base: Settings) -> Limits:
        """Return the profile's limits with the declared ones applied. A limit that rootless mode
        cannot enforce is an error only if it is declared.
        """
        limit_names = set(Limits.__dataclass_fields__)
        unknown_names = sorted(str(key) for key in (self.limits or {}) if key not in limit_names)
        if unknown_names:
            raise InvalidInput(
                f"security.limits: {unknown_names[0]!a} is not known.",
                remedy=f"use {', '.join(sorted(limit_names))}",
            )
        rootless = self.user_namespaces == "rootless"
        base_limits = (
            replace(base.limits, network_mib=0, disk_percent=0) if rootless else base.limits
        )
        return replace(base_limits, **(self.limits or {}))


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))


def _check_seccomp(text: str) -> None:
    if not text:
        return
    profile: Any = None
    with suppress(ValueError, TypeError, RecursionError):
        profile = json.loads(text)
    complete = isinstance(profile, dict) and isinstance(profile.get("syscalls"), list)
    if not complete or not isinstance(profile.get("defaultAction"), str):
        raise InvalidInput(
            "security.seccomp is not a seccomp profile.",
            remedy="set JSON text with defaultAction and syscalls, as in Docker's documentation",
        )
    if profile["defaultAction"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"):
        raise InvalidInput(
            f"security.seccomp allows by default ({profile['defaultAction']}).",
            cause="Docker's own profile, which it would replace, forbids by default",
            remedy="start from Docker's profile, and remove permissions",
        )


def _refuse_impossible(chosen: Settings) -> None:
    """Refuse impossible combinations, with the reason."""
    if chosen.user_namespaces != "rootless":
        return
    if chosen.policy is not None:
        raise InvalidInput(
            "security: rootless and authorization exclude each other.",
            cause="a rootless dockerd belongs to the user whom the plugin must restrict: the "
            "user could start another dockerd",
            remedy="choose remap with authorization, or rootless with authorization: false",
        )
    if chosen.limits.network_mib:
        raise InvalidInput(
            "security: rootless and limits.network_mib exclude each other.",
            cause="packets of a rootless dockerd leave the host as those of an ordinary program",
            remedy="choose remap, or omit the limit",
        )
    if chosen.limits.disk_percent:
        raise InvalidInput(
            "security: rootless and limits.disk_percent exclude each other.",
            cause="a rootless dockerd keeps its data in the home of its user",
            remedy="choose remap, or omit the limit",
        )
