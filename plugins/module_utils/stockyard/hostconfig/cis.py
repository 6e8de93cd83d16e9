# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIS Docker Benchmark 1.6, sections 1 to 3: host, daemon, and files of the daemon.

Each check has the number of the benchmark and a text of this project. :data:`WAIVERS` lists the
checks that a ``hostile`` host does not pass, with the reasons for accepting that.
"""

from __future__ import annotations

import grp
import pwd
import re
import stat
from dataclasses import dataclass, replace
from typing import Any

from ..model import untrusted
from .audit import PATIENCE, Audit, Finding
from .machine import Machine

WAIVERS = {
    "2.1": "remap keeps containers off the host's root; a rootless daemon cannot be held by an "
    "authorization plugin",
    "2.13": "logs of a disposable host go where its user sends them: the driver is a matter of "
    "each container",
    "2.17": "Docker's own profile is in force unless the declaration brings another",
    "3.13": "the key belongs to the user that ends TLS in front of dockerd, which has no other "
    "right",
    "3.14": "as 3.13: that user's own, mode 0600",
}
RULES: tuple[tuple[str, str], ...] = (
    ("1.1.3", "/usr/sbin/dockerd"), ("1.1.4", "/run/containerd"), ("1.1.5", "/var/lib/docker"),
    ("1.1.6", "/etc/docker"), ("1.1.7", "/lib/systemd/system/docker.service"),
    ("1.1.8", "/run/containerd/containerd.sock"), ("1.1.9", "/lib/systemd/system/docker.socket"),
    ("1.1.10", "/etc/default/docker"), ("1.1.11", "/etc/docker/daemon.json"),
    ("1.1.12", "/etc/containerd/config.toml"), ("1.1.13", "/etc/sysconfig/docker"),
    ("1.1.14", "/usr/bin/containerd"), ("1.1.15", "/usr/bin/containerd-shim"),
    ("1.1.16", "/usr/bin/containerd-shim-runc-v1"), ("1.1.17", "/usr/bin/containerd-shim-runc-v2"),
    ("1.1.18", "/usr/sbin/runc"),
)  # fmt: skip
TLS = "/var/lib/stockyard/tls"
# Two checks each, for owner and mode: path, owner, group, mode at most.
FILES: tuple[tuple[str, str, str, str, str, int], ...] = (
    ("3.1", "3.2", "/lib/systemd/system/docker.service", "root", "root", 0o644),
    ("3.3", "3.4", "/lib/systemd/system/docker.socket", "root", "root", 0o644),
    ("3.5", "3.6", "/etc/docker", "root", "root", 0o755),
    ("3.7", "3.8", "/etc/docker/certs.d", "root", "root", 0o755),
    ("3.9", "3.10", f"{TLS}/ca.pem", "root", "root", 0o644),
    ("3.11", "3.12", f"{TLS}/cert.pem", "root", "root", 0o644),
    ("3.13", "3.14", f"{TLS}/key.pem", "root", "root", 0o400),
    ("3.15", "3.16", "/run/docker.sock", "root", "docker", 0o660),
    ("3.17", "3.18", "/etc/docker/daemon.json", "root", "root", 0o644),
    ("3.19", "3.20", "/etc/default/docker", "root", "root", 0o644),
    ("3.22", "3.21", "/etc/sysconfig/docker", "root", "root", 0o644),
    ("3.23", "3.24", "/run/containerd/containerd.sock", "root", "root", 0o660),
)


@dataclass(frozen=True)
class Facts:
    """Inputs of the daemon's checks."""

    info: dict[str, Any]
    config: dict[str, Any]
    users: frozenset[str]


def findings(audit: Audit, allowed: frozenset[str] = frozenset()) -> list[Finding]:
    """Return the results of all checks, each with the reason if a failure is accepted.

    :param allowed: users that may be in the group docker, in addition to the TLS front.
    """
    machine = audit.machine
    facts = Facts(audit.info, _config(machine), _group(machine, "docker"))
    rules = machine.programs(["auditctl", "-l"], PATIENCE).out
    results = [
        _own_file_system(machine),
        _users(facts, allowed | {"stockyard-tls"}),
        *(_rule(machine, rules, number, path) for number, path in RULES),
        *(
            Finding(f"{number} {text}", "yes", "yes" if ok else "no", ok)
            for number, text, ok in _daemon(facts, audit)
        ),
        *(finding for entry in FILES for finding in _file(machine, *entry)),
    ]
    return [
        replace(result, waiver=WAIVERS.get(result.check.split()[0], ""))
        if result.ok is not True
        else result
        for result in results
    ]


def _daemon(facts: Facts, audit: Audit) -> list[tuple[str, str, bool]]:
    config, names = facts.config, " ".join(map(str, facts.info.get("SecurityOptions") or []))
    return [
        ("2.1", "dockerd is no root", "rootless" in names),
        (
            "2.2",
            "containers do not reach each other on the default bridge",
            config.get("icc") is False,
        ),
        ("2.3", "the log level is info", config.get("log-level", "info") == "info"),
        ("2.4", "Docker makes its rules of iptables", config.get("iptables", True) is True),
        ("2.5", "no registry is insecure", not audit.insecure()),
        ("2.6", "the storage driver is not aufs", facts.info.get("Driver") not in (None, "aufs")),
        (
            "2.7",
            "over the network, TLS with certificates of both sides alone",
            _shut(audit.machine),
        ),
        ("2.8", "there are default ulimits", bool(config.get("default-ulimits"))),
        ("2.9", "user namespaces", "userns" in names or "rootless" in names),
        (
            "2.10",
            "the cgroup of containers is the one that was chosen",
            config.get("cgroup-parent", "").endswith(".slice"),
        ),
        (
            "2.11",
            "the size of a container's disk was not changed",
            not _option(config, "dm.basesize"),
        ),
        ("2.12", "an authorization plugin", bool(config.get("authorization-plugins"))),
        (
            "2.13",
            "logs go to another machine",
            config.get("log-driver") in ("syslog", "gelf", "fluentd", "splunk"),
        ),
        ("2.14", "no new privileges", config.get("no-new-privileges") is True),
        (
            "2.15",
            "containers live on while dockerd is away",
            facts.info.get("LiveRestoreEnabled") is True,
        ),
        ("2.16", "no proxy in user space", config.get("userland-proxy") is False),
        ("2.17", "a seccomp profile of one's own", bool(config.get("seccomp-profile"))),
        ("2.18", "nothing experimental", facts.info.get("ExperimentalBuild") is not True),
    ]


def _users(facts: Facts, allowed: frozenset[str]) -> Finding:
    """Check 1.1.2: every member of the group docker is effectively root."""
    unexpected = sorted(facts.users - allowed)
    return Finding(
        "1.1.2 only trusted users in the group docker",
        ", ".join(sorted(allowed)),
        ", ".join(unexpected) or "no others",
        not unexpected,
    )


def _rule(machine: Machine, rules: str, number: str, path: str) -> Finding:
    """Check that changes of a path are recorded. As in the benchmark, a path that does not exist
    need not be watched.
    """
    names = _names(path)
    exists = any(machine.stat(variant) is not None for variant in names)
    watched = any(f" {variant} " in f"{rules} ".replace("\n", " ") for variant in names)
    return Finding(
        f"{number} changes of {path} are recorded",
        "yes",
        "yes" if watched else "no" if exists else "absent",
        watched or not exists,
    )


def _names(path: str) -> tuple[str, ...]:
    """Return the variants of a path. auditctl prints a path as it was written, /lib may be
    /usr/lib, and Docker's own packages have their daemons in /usr/bin.
    """
    programs = (path.replace("/usr/sbin/", "/usr/bin/"),) if "/usr/sbin/" in path else ()
    return (path, *programs, f"/usr{path}", path.rstrip("/") + "/")


def _file(
    machine: Machine, owner_check: str, mode_check: str, path: str, user: str, group: str, mode: int
) -> list[Finding]:
    status = machine.stat(path)
    if status is None:
        return [
            Finding(f"{check} {path}", "absent or right", "absent", ok=True)
            for check in (owner_check, mode_check)
        ]
    owner = f"{_name(status.st_uid)}:{_group_name(status.st_gid)}"
    bits = stat.S_IMODE(status.st_mode)
    return [
        Finding(
            f"{owner_check} owner of {path}", f"{user}:{group}", owner, owner == f"{user}:{group}"
        ),
        Finding(
            f"{mode_check} mode of {path}", f"{mode:04o} or less", f"{bits:04o}", bits & ~mode == 0
        ),
    ]


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _config(machine: Machine) -> dict[str, Any]:
    try:
        config = untrusted.parse(machine.read("/etc/docker/daemon.json") or "{}")
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _group(machine: Machine, name: str) -> frozenset[str]:
    lines = (line.split(":") for line in (machine.read("/etc/group") or "").splitlines())
    return frozenset(
        user for parts in lines if parts[0] == name for user in parts[3].split(",") if user
    )


def _own_file_system(machine: Machine) -> Finding:
    mounted = machine.mounts("/var/lib/docker")
    return Finding(
        "1.1.1 a file system of its own for containers", "yes", "yes" if mounted else "no", mounted
    )


def _shut(machine: Machine) -> bool:
    """Return whether dockerd itself has no network listener, because TLS ends before it.

    Published ports of containers do not count: without a proxy in user space, dockerd itself holds
    them.
    """
    process = machine.programs(
        ["ss", "--listening", "--tcp", "--numeric", "--processes", "--no-header"], PATIENCE
    )
    if process.code:
        return False
    listening = {
        line.split()[3].rpartition(":")[2]
        for line in process.out.splitlines()
        if '"dockerd"' in line
    }
    return not listening or listening <= _published(machine)


def _published(machine: Machine) -> set[str]:
    """Return the host's TCP ports that lead to a container, from docker's format
    ``0.0.0.0:8080-8081->80-81/tcp``.
    """
    ports = machine.programs(["docker", "ps", "--format", "{{.Ports}}"], PATIENCE).out
    ranges = re.findall(r":(\d+)(?:-(\d+))?->[\d-]+/tcp", ports)
    return {
        str(port) for first, last in ranges for port in range(int(first), int(last or first) + 1)
    }


def _option(config: dict[str, Any], name: str) -> bool:
    return any(str(option).startswith(name) for option in config.get("storage-opts", []))
