# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that is really in force in a host, read from kernel and daemon, against the one that it
should have.

Files say what was wanted; they are looked at only where nothing else can tell. Changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, NotFound
from ..guest.security import (
    MARKER,
    addresses,
    authorization,
    daemon,
    disk,
    firewall,
    kernel,
    limits,
    login,
    request_reader,
)
from ..model import codec, untrusted
from ..model.security import Settings
from . import networks
from .machine import Machine

PATIENCE = 60.0
IN_ITS_DIRECTORY = (
    "systemd-run",
    "--quiet",
    "--pipe",
    "--wait",
    "--collect",
    "--property=RuntimeDirectory=sshd",
    "--property=RuntimeDirectoryPreserve=yes",
)
SLICE = "/sys/fs/cgroup/stockyard.slice/stockyard-containers.slice"
# What only a kernel that has it can be asked.
ABSENT = "not known to this kernel"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param ok: whether it is as it should be; ``None`` where it could not be told.
    :param waiver: why it is well that it is not, where somebody said so.
    """

    check: str
    expected: str
    found: str
    ok: bool | None
    waiver: str = ""

    @property
    def bad(self) -> bool:
        """Whether somebody has to look."""
        return self.ok is not True and not self.waiver


def settings_of(machine: Machine) -> Settings:
    """What the host says itself that it should be.

    :raises NotFound: when it says nothing.
    """
    text = machine.read(MARKER)
    if text is None:
        raise NotFound(
            "this host does not say what it should be.",
            name=MARKER,
            remedy="give security, or put a profile on the host, as the role hardening does",
        )
    try:
        return codec.from_dict(Settings, untrusted.parse(text))
    except ValueError as error:
        raise InvalidInput("it is no JSON.", name=MARKER, cause=str(error)) from error


class Audit:
    """Looks at one host."""

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self.machine = machine
        self.settings = settings
        self.info = self.docker("info", "--format", "{{json .}}") or {}

    def docker(self, *arguments: str) -> Any:
        """What Docker's client says, as JSON; nothing where it says nothing of use."""
        done = self.machine.programs(["docker", *arguments], PATIENCE)
        try:
            return untrusted.parse(done.out) if done.code == 0 else None
        except ValueError:
            return None

    def findings(self) -> list[Finding]:
        """Everything that there is to look at."""
        themes = (
            self._daemon,
            self._networks,
            self._plugin,
            self._containers,
            self._kernel,
            self._limits,
            self._units,
            self._login,
        )
        return [finding for theme in themes for finding in theme()]

    def _daemon(self) -> list[Finding]:
        if not self.info.get("ID"):
            return [Finding("docker answers", "yes", "no", ok=False)]
        options = [str(o) for o in self.info.get("SecurityOptions") or []]
        names = {o.removeprefix("name=").partition(",")[0] for o in options}
        users = "rootless" if "rootless" in names else "remap" if "userns" in names else "none"
        plugins = (self.info.get("Plugins") or {}).get("Authorization") or []
        wanted = [authorization.NAME] if self.settings.policy is not None else []
        found = [
            is_("user namespaces", self.settings.user_namespaces, users),
            is_("authorization plugins", wanted, plugins),
            is_(
                "seccomp", True, "seccomp" in names and not any("unconfined" in o for o in options)
            ),
            is_("cgroups", "2", str(self.info.get("CgroupVersion"))),
            is_("insecure registries", [], self.insecure()),
        ]
        if users != "rootless":
            found.append(is_("AppArmor", True, "apparmor" in names))
        return [*found, self._icc(), *self._configuration()]

    def insecure(self) -> list[str]:
        """Registries elsewhere that are spoken to without TLS."""
        known = (self.info.get("RegistryConfig") or {}).get("InsecureRegistryCIDRs") or []
        return [net for net in known if not str(net).startswith(("127.", "::1"))]

    def _icc(self) -> Finding:
        bridge = self.docker("network", "inspect", "bridge")
        options = bridge[0].get("Options") or {} if bridge else {}
        found = options.get("com.docker.network.bridge.enable_icc")
        return is_("containers reach each other", str(self.settings.icc).lower(), str(found))

    def _configuration(self) -> list[Finding]:
        """Keys of daemon.json that dockerd does not tell: in force if it started after they were
        written.
        """
        path = daemon.PATH if self.settings.user_namespaces != "rootless" else daemon.ROOTLESS
        try:
            said = untrusted.parse(self.machine.read(path) or "{}")
        except ValueError:
            said = {}
        # Pools may be a user's own: the networks of the host decide, below.
        keys = {
            key: value
            for key, value in daemon.keys(self.settings).items()
            if key not in addresses.KEYS
        }
        return [is_(f"daemon.json {key}", value, said.get(key)) for key, value in keys.items()]

    def _networks(self) -> list[Finding]:
        collisions = ", ".join(networks.collisions(self.machine))
        expected = "none: give Docker other default-address-pools"
        return [
            Finding(
                "the host's networks that meet Docker's",
                expected,
                collisions or "none",
                not collisions,
            )
        ]

    def _plugin(self) -> list[Finding]:
        """Compare the authorization plugin with this collection's: an older one lets
        more through.
        """
        files = authorization.part(self.settings).files
        other = sorted(path for path, file in files.items() if self.machine.read(path) != file.text)
        if not files:
            return []
        expected = "this collection's: build a new generation, or run the role hardening"
        return [
            Finding("authorization plugin", expected, ", ".join(other) or "the same", not other)
        ]

    def _containers(self) -> list[Finding]:
        """What the kernel says of each container that runs."""
        listed = self.machine.programs(
            ["docker", "ps", "--quiet", "--no-trunc"], PATIENCE
        ).out.split()
        return [finding for name in listed for finding in self._container(name)]

    def _container(self, name: str) -> list[Finding]:
        told = self.docker("inspect", name)
        pid = told[0]["State"]["Pid"] if told else 0
        status = dict(
            line.split(":\t", 1)
            for line in (self.machine.read(f"/proc/{pid}/status") or "").splitlines()
            if ":\t" in line
        )
        if not pid or not status:
            return []
        short, found = (
            f"container {name[:12]}",
            [is_(f"container {name[:12]}: seccomp", "2", status.get("Seccomp"))],
        )
        if self.settings.no_new_privileges:
            found.append(is_(f"{short}: no new privileges", "1", status.get("NoNewPrivs")))
        if self.settings.user_namespaces != "none":
            first = (self.machine.read(f"/proc/{pid}/uid_map") or "0 0 0").split()
            outside = int(first[1])
            low = daemon.REMAP_FIRST if self.settings.user_namespaces == "remap" else 1
            found.append(
                Finding(
                    f"{short}: its root on the host",
                    f"{low} or above",
                    str(outside),
                    outside >= low,
                )
            )
        return found

    def _kernel(self) -> list[Finding]:
        found = []
        for key, value in sorted(kernel.sysctls(self.settings).items()):
            text = self.machine.read("/proc/sys/" + key.replace(".", "/"))
            if text is None:
                found.append(Finding(f"sysctl {key}", value, ABSENT, ok=True))
            else:
                found.append(is_(f"sysctl {key}", value.split(), text.split()))
        merging = (self.machine.read("/sys/kernel/mm/ksm/run") or "0").strip()
        return [*found, is_("memory is not merged (KSM)", "0", merging)]

    def _limits(self) -> list[Finding]:
        return [*self._disk(), *self._slices()]

    def _disk(self) -> list[Finding]:
        if not self.settings.limits.disk_percent:
            return []
        return [
            is_("containers have a file system of their own", True, self.machine.mounts(disk.ROOT))
        ]

    def _slices(self) -> list[Finding]:
        chosen = self.settings.limits
        if not limits.for_all(chosen) or self.settings.user_namespaces == "rootless":
            return []
        if self.machine.stat(SLICE) is None:
            return [
                Finding("limits of all containers", "a slice", "no container has run yet", ok=True)
            ]
        found = (
            [is_("processes of all containers", str(chosen.pids), self._slice("pids.max"))]
            if chosen.pids
            else []
        )
        if chosen.memory_percent:
            found.append(self._memory(chosen.memory_percent))
        return found

    def _memory(self, percent: int) -> Finding:
        """systemd takes the share when it makes the slice: of a host that grew since it may be
        less.
        """
        told = (line.split() for line in (self.machine.read("/proc/meminfo") or "").splitlines())
        total = next((int(words[1]) for words in told if words[0] == "MemTotal:"), 0) * 1024
        limit = self._slice("memory.max")
        share = round(int(limit) * 100 / total) if limit.isdigit() and total else None
        shown = limit if share is None else f"{share} %"
        ok = share is not None and share <= percent
        return Finding("memory of all containers", f"{percent} % at most", shown, ok)

    def _slice(self, name: str) -> str:
        return (self.machine.read(f"{SLICE}/{name}") or "").strip()

    def _units(self) -> list[Finding]:
        units = []
        if self.settings.firewall or self.settings.limits.network_mib:
            units.append(firewall.UNIT)
        if self.settings.policy is not None:
            units += [authorization.UNIT, request_reader.UNIT]
        if self.settings.audit:
            units.append("auditd.service")
        found = [is_(unit, "active", self._active(unit)) for unit in units]
        if self.settings.policy is not None:
            found.append(self._socket())
        if self.settings.firewall:
            done = self.machine.programs(["nft", "list", "table", "inet", "stockyard"], PATIENCE)
            shut = "hook input" in done.out and "policy drop" in done.out
            found.append(
                Finding(
                    "firewall rules in the kernel",
                    "input is dropped",
                    "yes" if shut else "no",
                    shut,
                )
            )
        if self.settings.firewall and not self.settings.icc:
            done = self.machine.programs(["nft", "list", "table", "bridge", "stockyard"], PATIENCE)
            found.append(
                is_(
                    "frames between containers are dropped",
                    True,
                    'ibrname "docker0" drop' in done.out,
                )
            )
        if self.settings.audit:
            told = self.machine.programs(["auditctl", "-l"], PATIENCE).out
            found.append(
                Finding(
                    "audit rules in the kernel",
                    "some",
                    str(told.count("docker\n")),
                    "docker\n" in told,
                )
            )
        return found

    def _socket(self) -> Finding:
        """Return whether all requests pass the HTTP reader: dockerd listens where nobody else may
        connect.
        """
        line = ["systemctl", "show", "--property=Listen", "--value", "docker.socket"]
        places = self.machine.programs(line, PATIENCE).out.strip()
        return is_(
            "dockerd listens for the HTTP reader alone", f"{request_reader.DOCKER} (Stream)", places
        )

    def _active(self, unit: str) -> str:
        return self.machine.programs(["systemctl", "is-active", unit], PATIENCE).out.strip()

    def _login(self) -> list[Finding]:
        if not self.settings.kernel:
            return []
        told = self.machine.programs(["sshd", "-T"], PATIENCE)
        if not told.out:
            # It wants its directory, which is there only while systemd runs it.
            told = self.machine.programs([*IN_ITS_DIRECTORY, "sshd", "-T"], PATIENCE)
        said = dict(line.split(" ", 1) for line in told.out.splitlines() if " " in line)
        wanted = dict(line.split(" ", 1) for line in login.TEXT.splitlines())
        wanted["PasswordAuthentication"] = "no"
        return [
            is_(f"sshd {key}", value.lower(), said.get(key.lower()))
            for key, value in wanted.items()
        ]


def is_(check: str, expected: Any, found: Any) -> Finding:
    """A finding that is well when both are equal."""
    return Finding(check, _shown(expected), _shown(found), expected == found)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
