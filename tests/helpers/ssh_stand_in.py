# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for ssh(1): a host is a directory of this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

SCRIPT = """#!/bin/sh
while :; do
  case "$1" in
    -p|-o|-i|-l) shift 2 ;;
    --) shift; break ;;
    -*) shift ;;
    *) break ;;
  esac
done
shift
cd {home} || exit 255
export HOME={home} PATH={path}
exec sh -c "$*"
"""

# Each pinned host key has a directory, so each host has another one, whatever its name.
HOSTS_SCRIPT = """#!/bin/sh
port=22
while :; do
  case "$1" in
    -p) port=$2; shift 2 ;;
    -o) case "$2" in UserKnownHostsFile=*) known_hosts=${2#*=} ;; esac; shift 2 ;;
    -i|-l) shift 2 ;;
    --) shift; break ;;
    -*) shift ;;
    *) break ;;
  esac
done
address="[${1#*@}]:$port"
[ "$port" -ne 22 ] || address=${1#*@}
shift
key=$(grep -F "$address " "$known_hosts" | cut -d " " -f 2-)
[ -n "$key" ] || exit 255
HOME=@HOMES@/$(printf %s "$key" | cksum | cut -d " " -f 1) PATH=@PATH@
export HOME PATH
mkdir -p "$HOME" && cd "$HOME" || exit 255
[ ! -e unreachable ] || exit 255
exec sh -c "$*"
"""


def install_hosts(folder: Path, homes: Path, programs: Path) -> Path:
    """Write a stand-in with a home directory for each host; return the directory to search first.

    A host with the file ``unreachable`` in its home directory accepts no more connections.

    :param homes: the directory of the home directories.
    :param programs: a directory of programs that hosts have besides those of this machine.
    """
    folder.mkdir(parents=True)
    homes.mkdir(parents=True)
    path = f"{programs}:/usr/bin:/bin"
    script = HOSTS_SCRIPT.replace("@HOMES@", shlex.quote(str(homes)))
    (folder / "ssh").write_text(script.replace("@PATH@", shlex.quote(path)))
    (folder / "ssh").chmod(0o755)
    return folder


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, home: Path, *, rsync: bool = True
) -> None:
    """Put the stand-in first on the path of programs.

    :param home: the directory in which commands of the host run.
    :param rsync: whether the host has rsync.
    """
    home.mkdir()
    path = "/usr/bin:/bin" if rsync else str(folder / "host-programs")
    if not rsync:
        (folder / "host-programs").mkdir(parents=True)
        for name in ("sh", "tar", "find", "mkdir", "rm", "cat", "sleep"):
            (folder / "host-programs" / name).symlink_to(Path("/usr/bin") / name)
    programs = folder / "programs"
    programs.mkdir(parents=True)
    script = SCRIPT.format(home=shlex.quote(str(home)), path=shlex.quote(path))
    (programs / "ssh").write_text(script)
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
