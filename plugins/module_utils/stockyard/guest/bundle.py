# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent and all that goes with it as an archive, for a machine that is not built here: a
template of vCenter's.

``python3 -m stockyard.guest.bundle > agent.tar`` writes it; the playbook ``vsphere_template`` puts
it into a machine, and the page on vSphere says how to do that by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import IO

from ..errors import StockyardError
from ..model import naming
from ..model.image import ImageSpec
from ..model.recipe import GuestFile
from ..model.security import PROFILES, SecuritySpec
from . import recipe
from .archive import pack, write_tar

# What Debian has of what is needed, beside a system that boots.
PACKAGES = (
    "acl",
    "ca-certificates",
    "docker.io",
    "open-vm-tools",
    "openssh-server",
    "python3-apt",
    "python3-cryptography",
    "python3-minimal",
    "stunnel4",
    "sudo",
)
# The network and the names are the machine's own, and so is its release.
LEFT_OUT = ("/etc/resolv.conf", "/etc/hostname", "/etc/default/locale", recipe.SSHD_SOURCES)
# Consoles are left as they are: somebody has to be able to look.
CONSOLES = ("getty@tty1.service", "serial-getty@ttyS0.service")


def files(user: str, docker: str = "running", profile: str = "trusted") -> dict[str, GuestFile]:
    """What goes into the machine, by its path.

    :param user: login that is made in it.
    :param profile: how well its forks are shut; ``shared`` needs the package nftables too,
        ``hostile`` also auditd and python3-h11.
    """
    made = recipe.recipe(ImageSpec(ssh_user=naming.user(user)), docker, SecuritySpec(profile)).files
    masks = {f"/etc/systemd/system/{unit}" for unit in CONSOLES}
    return {path: file for path, file in made.items() if path not in LEFT_OUT and path not in masks}


def main(arguments: list[str] | None = None, output: IO[bytes] | None = None) -> None:
    """Write the archive to standard output, or to a file."""
    parser = argparse.ArgumentParser(
        prog="python3 -m stockyard.guest.bundle", description=main.__doc__
    )
    parser.add_argument("--user", default="stockyard", help="the login that is made in the guest")
    parser.add_argument("--docker", choices=["running", "stopped"], default="running")
    parser.add_argument("--output", type=Path, help="write to this file")
    parser.add_argument(
        "--security", choices=PROFILES, default="trusted", help="the security profile of its forks"
    )
    chosen = parser.parse_args(arguments)
    try:
        found = files(chosen.user, chosen.docker, chosen.security)
    except StockyardError as error:
        parser.error(str(error))
    if chosen.output:
        write_tar(chosen.output, found)
    else:
        pack(output or sys.stdout.buffer, found)


if __name__ == "__main__":
    main()
