# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that reach a host: by SSH, or with Docker's client.

The program of the command replaces this process, so that signals, terminal and exit code are its
own.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..model.access_info import export_line, ssh_options
from . import say
from .command import HOST, JSON, Argument, Command, Option, Options, Outcome, Program
from .select import select_host, select_running, ssh_words

if TYPE_CHECKING:
    from ..yard import Yard

FAILED = 125
LOCAL = "127.0.0.1"
TENANT = Option("--tenant", "the tenant of the host")
REMOTE = Argument("command", "COMMAND", "the command with its arguments", many=True, required=False)


def _ssh(yard: Yard, options: Options) -> Program:
    entry = select_running(yard, options.host, options.tenant)
    return Program((*ssh_words(entry), *_quoted(options.command)))


def _exec(yard: Yard, options: Options) -> Program:
    entry = select_running(yard, options.host, options.tenant)
    terminal = ["-t"] if options.tty else ["-T"]
    words = ssh_words(entry, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", *terminal)
    return Program((*words, *_quoted(options.command)))


def _quoted(words: tuple[str, ...]) -> list[str]:
    """Return a command as one argument of ssh(1), for the shell of the host."""
    return [shlex.join(words)] if words else []


def _copy(yard: Yard, options: Options) -> Program:
    *sources, target = options.paths
    parts = {path: _remote(path) for path in options.paths}
    remote_hosts = {part[0] for part in parts.values() if part}
    if not sources or len(remote_hosts) != 1 or bool(parts[target]) == any(map(parts.get, sources)):
        raise InvalidInput(
            "the paths name not exactly one host.",
            remedy="write stockyard cp FILE... HOST:PATH, or stockyard cp HOST:PATH... FILE",
        )
    entry = select_running(yard, remote_hosts.pop(), options.tenant)
    ssh = entry["ssh"]
    address = f"[{ssh['host']}]" if ":" in ssh["host"] else ssh["host"]
    words = [
        f"{ssh['user']}@{address}:{part[1]}" if (part := parts[path]) else _local(path)
        for path in options.paths
    ]
    quiet = () if sys.stderr.isatty() else ("-q",)
    pinned = ssh_options(ssh["known_hosts"], ssh["private_key"])
    return Program(
        ("scp", "-r", *quiet, "-P", str(ssh["port"]), "-o", "BatchMode=yes", *pinned, "--", *words)
    )


def _remote(path: str) -> tuple[str, str] | None:
    """Return host and path of ``HOST:PATH``; ``None`` for a path of this machine."""
    host, colon, remote_path = path.partition(":")
    return (host, remote_path) if colon and host and "/" not in host else None


def _local(path: str) -> str:
    """Return a path of this machine that scp(1) does not take for another one."""
    return f"./{path}" if not path.startswith("/") else path


def _docker(yard: Yard, options: Options) -> Outcome:
    if options.arguments:
        select_running(yard, options.host, options.tenant)
    docker = yard.hosts.get(*select_host(yard, options)).docker
    if options.arguments:
        return Program(("docker", *options.arguments), docker.environment)
    if options.json:
        say.data({"endpoint": docker.endpoint, "environment": docker.environment})
    else:
        say.shell(export_line(docker.environment) if options.env else docker.context)
    return 0


def _tunnel(yard: Yard, options: Options) -> Program:
    local, colon, remote = options.ports.partition(":")
    ports = [local, remote if colon else local]
    if not all(port.isascii() and port.isdecimal() and 0 < int(port) < 65536 for port in ports):
        raise InvalidInput(f"{options.ports} names no ports.", remedy="write [LOCAL:]PORT")
    entry = select_running(yard, options.host, options.tenant)
    forward = f"{LOCAL}:{ports[0]}:{LOCAL}:{ports[1]}"
    words = ssh_words(
        entry, "-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-L", forward
    )
    line = f"{LOCAL}:{ports[0]} leads to port {ports[1]} of {options.host} until you press Ctrl-C"
    return Program(words, progress="" if options.quiet else line)


def _ssh_config(yard: Yard, options: Options) -> int:
    config = yard.hosts.ssh_config(options.tenant)
    if options.json:
        say.data(config.to_dict())
    else:
        for line in (config.include if options.include else config.content).splitlines():
            say.shell(line)
    return 0


SSH = Command(
    "ssh", "log in to a host, or run a command on its terminal", _ssh, (HOST, REMOTE, TENANT),
    failure=FAILED, verbatim=True,
)  # fmt: skip
SSH_CONFIG = Command(
    "ssh-config",
    "print the configuration of OpenSSH for the hosts of a tenant",
    _ssh_config,
    (
        Option("--include", "print the lines for the end of ~/.ssh/config", flag=True),
        Option("--tenant", "the tenant", "default"),
        JSON,
    ),
    text="The configuration is also a file, which each change of the hosts updates. After "
    "stockyard ssh-config --include >> ~/.ssh/config, ssh and DOCKER_HOST=ssh://HOST reach each "
    "host by its name.",
)
EXEC = Command(
    "exec",
    "run a command on a host",
    _exec,
    (
        HOST,
        Argument("command", "COMMAND", "the command with its arguments", many=True),
        Option("--tty", "give the command a terminal", flag=True, short="-t"),
        TENANT,
    ),
    failure=FAILED,
    verbatim=True,
    text="Options come before the command. Two hyphens can separate both: "
    "stockyard exec web-1 -- uname -s. The exit code is that of the command, 125 if "
    "stockyard failed, 255 if SSH failed.",
)
COPY = Command(
    "cp",
    "copy files and directories to or from a host",
    _copy,
    (
        Argument("paths", "PATH", "HOST:PATH, or a path of this machine", many=True),
        TENANT,
    ),
    text="The last path is the target: stockyard cp page.html web-1:/tmp/.",
)
DOCKER = Command(
    "docker",
    "run Docker's client on a host; without arguments print its context",
    _docker,
    (
        HOST,
        Argument("arguments", "ARGUMENT", "the arguments of docker", many=True, required=False),
        Option("--env", "print the environment of Docker clients for a shell", flag=True),
        TENANT,
        JSON,
    ),
    failure=FAILED,
    verbatim=True,
    text="Options come before the arguments of docker: stockyard docker web-1 ps -a.",
)
TUNNEL = Command(
    "tunnel",
    "forward a port of this machine's loopback to a port of a host",
    _tunnel,
    (HOST, Argument("ports", "[LOCAL:]PORT", "the port of the host"), TENANT),
)
