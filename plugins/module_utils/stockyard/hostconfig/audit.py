# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit of a host: compares the state in force, read from the kernel and the daemon, with the
declared settings.

Files contain only intentions. The audit reads them only if nothing else shows the state. It changes
nothing.
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
# The result for a setting that the running kernel does not have.
ABSENT = "not known to this kernel"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    :param check: the name of the check.
    :param expected: the expected value.
    :param found: the value in force.
    :param ok: whether the check passes. ``None`` if that cannot be determined.
    :param waiver: the reason why a deviation is accepted. Empty if it is not accepted.
    """

    check: str
    expected: str
    found: str  # words: a key of the result
    ok: bool | None
    waiver: str = ""

    @property
    def bad(self) -> bool:
        """Return whether the finding needs attention."""
        return self.ok is not True and not self.waiver


def settings_of(machine: Machine) -> Settings:
    """Return the settings that the host itself declares.

    :raises NotFound: if the host declares none.
    """
    text = machine.read(MARKER)
    if text is None:
        raise NotFound(
            "the host has no security profile.",
            name=MARKER,
            remedy="set security, or install a profile on the host with the role hardening",
        )
    try:
        return codec.from_dict(Settings, untrusted.parse(text))
    except ValueError as error:
        raise InvalidInput("the file is not JSON.", name=MARKER, cause=str(error)) from error


class Audit:
    """Audit of one host."""

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self.machine = machine
        self.settings = settings
        self.info = self.docker("info", "--format", "{{json .}}") or {}

    def docker(self, *arguments: str) -> Any:
        """Return the JSON output of Docker's client, or nothing if it is unusable."""
        process = self.machine.programs(["docker", *arguments], PATIENCE)
        try:
            return untrusted.parse(process.out) if process.code == 0 else None
        except ValueError:
            return None

    def findings(self) -> list[Finding]:
        """Return the results of all checks."""
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
        options = [str(option) for option in self.info.get("SecurityOptions") or []]
        names = {option.removeprefix("name=").partition(",")[0] for option in options}
        users = "rootless" if "rootless" in names else "remap" if "userns" in names else "none"
        plugins = (self.info.get("Plugins") or {}).get("Authorization") or []
        desired = [authorization.NAME] if self.settings.policy is not None else []
        findings = [
            is_("user namespaces", self.settings.user_namespaces, users),
            is_("authorization plugins", desired, plugins),
            is_(
                "seccomp",
                True,
                "seccomp" in names and not any("unconfined" in option for option in options),
            ),
            is_("cgroups", "2", str(self.info.get("CgroupVersion"))),
            is_("insecure registries", [], self.insecure()),
        ]
        if users != "rootless":
            findings.append(is_("AppArmor", True, "apparmor" in names))
        return [*findings, self._icc(), *self._configuration()]

    def insecure(self) -> list[str]:
        """Return the registries on other machines that Docker uses without TLS."""
        registries = (self.info.get("RegistryConfig") or {}).get("InsecureRegistryCIDRs") or []
        return [
            registry for registry in registries if not str(registry).startswith(("127.", "::1"))
        ]

    def _icc(self) -> Finding:
        bridge = self.docker("network", "inspect", "bridge")
        options = bridge[0].get("Options") or {} if bridge else {}
        enabled = options.get("com.docker.network.bridge.enable_icc")
        return is_("containers reach each other", str(self.settings.icc).lower(), str(enabled))

    def _configuration(self) -> list[Finding]:
        """Check the keys of daemon.json that dockerd does not report. They are in force if dockerd
        started after they were written.
        """
        path = daemon.PATH if self.settings.user_namespaces != "rootless" else daemon.ROOTLESS
        try:
            config = untrusted.parse(self.machine.read(path) or "{}")
        except ValueError:
            config = {}
        # The user can declare other pools. The check of the host's networks below decides.
        keys = {
            key: value
            for key, value in daemon.keys(self.settings).items()
            if key not in addresses.KEYS
        }
        return [is_(f"daemon.json {key}", value, config.get(key)) for key, value in keys.items()]

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
        """Compare the authorization plugin with the one in this collection. An older plugin permits
        more requests.
        """
        files = authorization.part(self.settings).files
        differing = sorted(
            path for path, file in files.items() if self.machine.read(path) != file.text
        )
        if not files:
            return []
        expected = "this collection's: build a new generation, or run the role hardening"
        return [
            Finding(
                "authorization plugin", expected, ", ".join(differing) or "the same", not differing
            )
        ]

    def _containers(self) -> list[Finding]:
        """Check the state of each running container, as the kernel reports it."""
        containers = self.machine.programs(
            ["docker", "ps", "--quiet", "--no-trunc"], PATIENCE
        ).out.split()
        return [finding for name in containers for finding in self._container(name)]

    def _container(self, name: str) -> list[Finding]:
        details = self.docker("inspect", name)
        pid = details[0]["State"]["Pid"] if details else 0
        status = dict(
            line.split(":\t", 1)
            for line in (self.machine.read(f"/proc/{pid}/status") or "").splitlines()
            if ":\t" in line
        )
        if not pid or not status:
            return []
        short, findings = (
            f"container {name[:12]}",
            [is_(f"container {name[:12]}: seccomp", "2", status.get("Seccomp"))],
        )
        if self.settings.no_new_privileges:
            findings.append(is_(f"{short}: no new privileges", "1", status.get("NoNewPrivs")))
        if self.settings.user_namespaces != "none":
            first = (self.machine.read(f"/proc/{pid}/uid_map") or "0 0 0").split()
            outside = int(first[1])
            low = daemon.REMAP_FIRST if self.settings.user_namespaces == "remap" else 1
            findings.append(
                Finding(
                    f"{short}: its root on the host",
                    f"{low} or above",
                    str(outside),
                    outside >= low,
                )
            )
        return findings

    def _kernel(self) -> list[Finding]:
        findings = []
        for key, value in sorted(kernel.sysctls(self.settings).items()):
            text = self.machine.read("/proc/sys/" + key.replace(".", "/"))
            if text is None:
                findings.append(Finding(f"sysctl {key}", value, ABSENT, ok=True))
            else:
                findings.append(is_(f"sysctl {key}", value.split(), text.split()))
        merging = (self.machine.read("/sys/kernel/mm/ksm/run") or "0").strip()
        return [*findings, is_("memory is not merged (KSM)", "0", merging)]

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
        findings = (
            [is_("processes of all containers", str(chosen.pids), self._slice("pids.max"))]
            if chosen.pids
            else []
        )
        if chosen.memory_percent:
            findings.append(self._memory(chosen.memory_percent))
        return findings

    def _memory(self, percent: int) -> Finding:
        """Compare the memory limit with the declared share. systemd computes the limit when it
        creates the slice, so that the share of a host that was enlarged since may be smaller.
        """
        fields = (line.split() for line in (self.machine.read("/proc/meminfo") or "").splitlines())
        total = next((int(words[1]) for words in fields if words[0] == "MemTotal:"), 0) * 1024
        limit = self._slice("memory.max")
        share = round(int(limit) * 100 / total) if limit.isdigit() and total else None
        displayed = limit if share is None else f"{share} %"
        ok = share is not None and share <= percent
        return Finding("memory of all containers", f"{percent} % at most", displayed, ok)

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
        findings = [is_(unit, "active", self._active(unit)) for unit in units]
        if self.settings.policy is not None:
            findings.append(self._socket())
        if self.settings.firewall:
            process = self.machine.programs(["nft", "list", "table", "inet", "stockyard"], PATIENCE)
            shut = "hook input" in process.out and "policy drop" in process.out
            findings.append(
                Finding(
                    "firewall rules in the kernel",
                    "input is dropped",
                    "yes" if shut else "no",
                    shut,
                )
            )
        if self.settings.firewall and not self.settings.icc:
            process = self.machine.programs(
                ["nft", "list", "table", "bridge", "stockyard"], PATIENCE
            )
            findings.append(
                is_(
                    "frames between containers are dropped",
                    True,
                    'ibrname "docker0" drop' in process.out,
                )
            )
        if self.settings.audit:
            rules = self.machine.programs(["auditctl", "-l"], PATIENCE).out
            findings.append(
                Finding(
                    "audit rules in the kernel",
                    "some",
                    str(rules.count("docker\n")),
                    "docker\n" in rules,
                )
            )
        return findings

    def _socket(self) -> Finding:
        """Return whether all requests pass the HTTP reader: dockerd listens at an address to which
        only the reader can connect.
        """
        line = ["systemctl", "show", "--property=Listen", "--value", "docker.socket"]
        sockets = self.machine.programs(line, PATIENCE).out.strip()
        return is_(
            "dockerd listens for the HTTP reader alone",
            f"{request_reader.DOCKER} (Stream)",
            sockets,
        )

    def _active(self, unit: str) -> str:
        return self.machine.programs(["systemctl", "is-active", unit], PATIENCE).out.strip()

    def _login(self) -> list[Finding]:
        if not self.settings.kernel:
            return []
        process = self.machine.programs(["sshd", "-T"], PATIENCE)
        if not process.out:
            # sshd needs its directory, which exists only while systemd runs it.
            process = self.machine.programs([*IN_ITS_DIRECTORY, "sshd", "-T"], PATIENCE)
        config = dict(line.split(" ", 1) for line in process.out.splitlines() if " " in line)
        desired = dict(line.split(" ", 1) for line in login.TEXT.splitlines())
        desired["PasswordAuthentication"] = "no"
        return [
            is_(f"sshd {key}", value.lower(), config.get(key.lower()))
            for key, value in desired.items()
        ]


def is_(check: str, expected: Any, actual: Any) -> Finding:
    """Return a finding that is good if both values are equal."""
    return Finding(check, _as_text(expected), _as_text(actual), expected == actual)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
