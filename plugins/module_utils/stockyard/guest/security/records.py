# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel keeps a record of: whoever touches Docker's programs, files and sockets."""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from .part import NOTHING, Part

PATH = "/etc/audit/rules.d/stockyard.rules"
# The CIS Docker Benchmark 1.6, 1.1.3 to 1.1.18, less what Debian has not.
WATCHED = (
    "/usr/sbin/dockerd",
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
    "/usr/sbin/runc",
    "/etc/stockyard",
)
# journald turns the kernel's audit on or off when it starts, as it does in each fork, unless it is
# told not to; and without its socket it does not write down everything a second time.
JOURNAL = "/etc/systemd/journald.conf.d/stockyard-audit.conf"
JOURNAL_SOCKET = "systemd-journald-audit.socket"
# A rule about a socket needs its directory when it is loaded, and containerd starts later: with the
# mode that it has.
DIRECTORY = "/etc/tmpfiles.d/stockyard-audit.conf"
# A failing rule is told, and the others are loaded all the same.
HEAD = "-D\n-b 8192\n-f 1\n-c\n"


def part(settings: Settings) -> Part:
    """auditd, and its rules: of writes and of new attributes. Reads would be every start of a
    container.
    """
    if not settings.audit:
        return NOTHING
    lines = "".join(f"-w {path} -p wa -k docker\n" for path in WATCHED)
    files = {
        PATH: GuestFile(HEAD + lines),
        JOURNAL: GuestFile("[Journal]\nAudit=\n"),
        DIRECTORY: GuestFile("d /run/containerd 0711 root root\n"),
    }
    return Part(packages=("auditd",), files=files, masked=(JOURNAL_SOCKET,))
