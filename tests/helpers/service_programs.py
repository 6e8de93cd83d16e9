# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for the programs of a host that start the services of a GitLab job."""

from __future__ import annotations

from pathlib import Path

DOCKER = """#!/bin/sh
echo "$@" >> {folder}/docker.log
case "$*" in
  *broken*) exit 125 ;;
  inspect*Networks*) echo 127.0.0.1 ;;
  inspect*Ports*) echo {port}/tcp 53/udp ;;
esac
"""
# The hosts file of this machine stays as it is.
SUDO = """#!/bin/sh
case "$*" in
  *sed*) echo "$@" >> {folder}/sudo.log ;;
  *tee*) cat >> {folder}/hosts ;;
esac
"""


def install(folder: Path, port: int) -> None:
    """Write the programs. They record calls of Docker, and what is added to the hosts file.

    :param port: the port at which each service listens.
    """
    for name, text in {"docker": DOCKER, "sudo": SUDO}.items():
        (folder / name).write_text(text.format(folder=folder, port=port))
        (folder / name).chmod(0o755)
