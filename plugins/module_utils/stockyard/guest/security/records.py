# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's audit: a record of each change to Docker's programs, files and sockets."""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from ..docker_packages import DockerPackages
from .part import NOTHING, Part

PATH = "/etc/audit/rules.d/stockyard.rules"
# journald starts in each fork, and by default it turns the kernel's audit on or off at its start.
# This file prevents that. Without its audit socket journald does not log each event a second time.
JOURNAL = "/etc/systemd/journald.conf.d/stockyard-audit.conf"
JOURNAL_SOCKET = "systemd-journald-audit.socket"
# The directory of a socket must exist when a rule about the socket is loaded, and containerd starts
# later. The mode is containerd's own.
DIRECTORY = "/etc/tmpfiles.d/stockyard-audit.conf"
# auditd reports a rule that fails, and loads the remaining rules.
HEAD = "-D\n-b 8192\n-f 1\n-c\n"


def part(settings: Settings, docker: DockerPackages) -> Part:
    """Return auditd and its rules, for writes and changed attributes. Reads are not recorded: each
    start of a container would be an event.

    :param docker: the packages of Docker.
    """
    if not settings.audit:
        return NOTHING
    lines = "".join(f"-w {path} -p wa -k docker\n" for path in watched(docker))
    files = {
        PATH: GuestFile(HEAD + lines),
        JOURNAL: GuestFile("[Journal]\nAudit=\n"),
        DIRECTORY: GuestFile("d /run/containerd 0711 root root\n"),
    }
    return Part(packages=("auditd",), files=files, masked=(JOURNAL_SOCKET,))


def watched(docker: DockerPackages) -> tuple[str, ...]:
    """Return the paths of the CIS Docker Benchmark 1.6, 1.1.3 to 1.1.18, without paths that Debian
    does not have.
    """
    return (
        docker.dockerd,
        "/run/containerd",
        "/var/lib/docker",
        "/etc/docker",
        "/lib/systemd/system/docker.service",
        "/run/containerd/containerd.sock",
        "/lib/systemd/system/docker.socket",
        "/etc/default/docker",
        "/etc/docker/daemon.json",
        "/etc/containerd/config.toml",
        "/usr/bin/containerd",
        "/usr/bin/containerd-shim",
        "/usr/bin/containerd-shim-runc-v1",
        "/usr/bin/containerd-shim-runc-v2",
        docker.runc,
        "/etc/stockyard",
    )
