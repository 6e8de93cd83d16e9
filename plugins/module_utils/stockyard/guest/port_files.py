# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in a guest with which the hypervisor forwards the ports of containers."""

from __future__ import annotations

import json
from dataclasses import replace

from ..model import daemon_json
from ..model.recipe import GuestFile
from ..model.security import Settings
from . import ports
from .ports import publications, relay
from .ports.publications import ARRIVALS, MARKER, SOCKET
from .rendering import render
from .security import daemon
from .security.authorization import _source

PROXY = "/usr/lib/stockyard/docker-proxy"
ASK = "/usr/lib/stockyard/ask-for-port"
PACKAGE = "/usr/lib/stockyard/stockyard_ports"
# dockerd waits for 16 seconds.
PATIENCE = 12
ABSENT = (
    "the hypervisor does not forward ports now, because the process for it does not run or is "
    "connecting to this host. Try again; if that does not help, run the declaration of the host "
    "again, as with the playbook site."
)
LATE = "the hypervisor did not forward the port in time. Try again."

# dockerd starts this program for each published port. If the host has no relay, or no connection
# from elsewhere can arrive at the port, the program is docker-proxy at once.
_PROXY = """\
#!/bin/sh
# Ask for a forward of the hypervisor, and become docker-proxy.
PATH="$PATH:/usr/sbin:/usr/libexec/docker"
read -r machine </etc/machine-id
[ -e "{{ marker }}$machine" ] || exec docker-proxy "$@"
case " $* " in
  *" -proto tcp "*) ;;
  *) exec docker-proxy "$@" ;;
esac
case " $* " in
  {{ arrivals }}) exec {{ ask }} "$@" ;;
esac
exec docker-proxy "$@"
"""

# Ten ports can be published at once on one processor, so the program is small: Python needs ten
# times as long to start. dockerd reads the result of docker-proxy from descriptor 3, and waits for
# docker-proxy before it starts the container.
_ASK = """\
#!/usr/bin/perl
# Wait until the hypervisor forwards a port, and become docker-proxy.
use strict;
use warnings;
use Socket;

my $port = 0;
for my $index (0 .. $#ARGV - 1) {
    $port = $ARGV[$index + 1] if $ARGV[$index] eq "-host-port";
}
my $end = time + {{ patience }};
my $problem;
$SIG{PIPE} = "IGNORE";
$SIG{ALRM} = sub { die "late\n" };
until (defined $problem) {
    my $answer = eval {
        my $seconds = $end - time;
        alarm($seconds > 1 ? $seconds : 1);
        socket(my $relay, PF_UNIX, SOCK_STREAM, 0) or die "absent\n";
        connect($relay, sockaddr_un("{{ socket }}")) or die "absent\n";
        syswrite($relay, "$port\n") or die "absent\n";
        <$relay> // die "absent\n";
    };
    alarm(0);
    if (defined $answer) {
        chomp $answer;
        $problem = $answer eq "ok" ? "" : $answer;
    } elsif ($@ eq "late\n") {
        $problem = "{{ late }}";
    } elsif (time >= $end) {
        # dockerd starts the containers with a restart policy before it is active, and would not try
        # again to start this one. The relay lists its port later.
        my $state = `systemctl is-active docker.service`;
        $problem = $state =~ /^activating/ ? "" : "{{ absent }}";
    } else {
        # There is no relay yet, or the next one replaces it.
        select(undef, undef, undef, 0.1);
    }
}
if ($problem ne "") {
    open(my $result, ">&=", 3) or die "no descriptor for the result\n";
    syswrite($result, "1\nport $port: $problem");
    exit 1;
}
exec { "docker-proxy" } "docker-proxy", @ARGV;
"""


def proxy_script(marker: str = MARKER) -> str:
    """Return the program that dockerd starts in place of docker-proxy."""
    arrivals = " | ".join(f'*" -host-ip {address} "*' for address in ARRIVALS)
    return render(_PROXY, marker=marker, ask=ASK, arrivals=arrivals)


def ask_script(socket: str = SOCKET, patience: int = PATIENCE) -> str:
    """Return the program that waits for the forward of a port.

    :param patience: seconds for the hypervisor to forward it.
    """
    return render(_ASK, socket=socket, patience=patience, absent=ABSENT, late=LATE)


def with_proxy(files: dict[str, GuestFile], settings: Settings) -> dict[str, GuestFile]:
    """Return the files of an image whose dockerd starts stockyard's program for published ports. A
    program in the declared ``daemon.json`` stays.
    """
    if not settings.starts_proxies or daemon.PATH not in files:
        return files
    declared_keys = daemon_json.parse(files[daemon.PATH].text, daemon.PATH)
    keys = {"userland-proxy-path": PROXY, **declared_keys}
    text = json.dumps(keys, indent=2, sort_keys=True) + "\n"
    modules = {"__init__": ports, "publications": publications, "relay": relay}
    return {
        **files,
        **{f"{PACKAGE}/{name}.py": GuestFile(_source(module)) for name, module in modules.items()},
        PROXY: GuestFile(proxy_script(), 0o755),
        ASK: GuestFile(ask_script(), 0o755),
        daemon.PATH: replace(files[daemon.PATH], text=text),
    }
