# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start of crun by Docker, without a second dockerd.

For each container with a network namespace, Docker lets the runtime start dockerd again, as a hook
that reports the namespace to the running dockerd in one line (withLibnetwork() and
processSetKeyReexec() in moby). Debian's dockerd writes 20 MiB of memory before its first
instruction, because it is linked without fixed addresses. A fork would hold this memory from its
first container on. A program of a few lines reports the namespace in place of dockerd.

For a container without a limit of processes, runc leaves the number to systemd, whose default a
security profile can set. crun sets no limit there, so the limit is written into the configuration.
"""

from __future__ import annotations

from ..model.recipe import GuestFile
from .rendering import render

RUNTIME = "/usr/lib/stockyard/crun"
REPORT = "/usr/lib/stockyard/report-namespace"

# A text in config.json cannot contain the patterns, because its quotation marks are escaped. If
# Docker writes another hook, the hook stays.
_RUNTIME = """\
#!/bin/sh
# Run crun with a small program in place of dockerd as the hook of a container's network.
config= previous=
for word in "$@"; do
  [ "$previous" != --bundle ] || config=$word/config.json
  previous=$word
done
if [ -n "$config" ]; then
  sed -i 's#"path":"/proc/[0-9]*/exe","args":\\["libnetwork-setkey"#"path":"{{ report }}",\
"args":["libnetwork-setkey"#' "$config"
{% if container_pids %}  # The limit of processes of a container that has no limit of its own.
  grep -q '"pids":{' "$config" ||
    sed -i 's@"resources":{@"resources":{"pids":{"limit":{{ container_pids }}},@' "$config"
{% endif %}fi
exec /usr/bin/crun "$@"
"""

# Perl is in every Debian, and its interpreter is smaller than Python's.
_REPORT = """\
#!/usr/bin/perl
# Report the network namespace of a container to dockerd: -exec-root=FOLDER CONTAINER CONTROLLER,
# with the state of the container as standard input.
use strict;
use warnings;
use Socket;

my ($root, $container, $controller) = @ARGV;
$root =~ s/^-exec-root=//;
my ($pid) = join("", <STDIN>) =~ /"pid"\\s*:\\s*(\\d+)/ or die "no process in the state\\n";
socket(my $line, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\\n";
connect($line, sockaddr_un("$root/libnetwork/$controller.sock")) or die "connect: $!\\n";
my $report = qq({"ContainerID":"$container","Key":"/proc/$pid/ns/net"}\\n);
syswrite($line, $report) or die "write: $!\\n";
my $answer = "";
defined(sysread($line, $answer, 1024)) or die "read: $!\\n";
die "$answer\\n" unless $answer eq "success";
"""


def files(container_pids: int = 0) -> dict[str, GuestFile]:
    """Return the programs.

    :param container_pids: the limit of processes of a container without a limit of its own.
    """
    runtime = render(_RUNTIME, report=REPORT, container_pids=container_pids)
    return {RUNTIME: GuestFile(runtime, 0o755), REPORT: GuestFile(_REPORT, 0o755)}
