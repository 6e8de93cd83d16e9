# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for ssh(1): the host is a directory of this machine."""

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
