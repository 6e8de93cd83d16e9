# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent and its files as an archive, for a machine that stockyard does not build: a vCenter
template.

``python3 -m stockyard.guest.bundle > agent.tar`` writes the archive. The playbook
``vsphere_template`` unpacks it in a machine; the page on vSphere describes the manual steps.
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

# Debian packages that a guest needs in addition to a system that boots.
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
# The machine keeps its own network, names and release.
LEFT_OUT = ("/etc/resolv.conf", "/etc/hostname", "/etc/default/locale", recipe.SSHD_SOURCES)
# The consoles stay enabled, so that the operator can inspect the machine.
CONSOLES = ("getty@tty1.service", "serial-getty@ttyS0.service")


def files(user: str, docker: str = "running", profile: str = "trusted") -> dict[str, GuestFile]:
    """Return the files that go into the machine, by path.

    :param user: login that is created in the machine.
    :param profile: security profile of the forks; ``shared`` needs the package nftables too,
        ``hostile`` also auditd and python3-h11.
    """
    image_files = recipe.recipe(
        ImageSpec(ssh_user=naming.user(user)), docker, SecuritySpec(profile)
    ).files
    masks = {f"/etc/systemd/system/{unit}" for unit in CONSOLES}
    return {
        path: file
        for path, file in image_files.items()
        if path not in LEFT_OUT and path not in masks
    }


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
    options = parser.parse_args(arguments)
    try:
        guest_files = files(options.user, options.docker, options.security)
    except StockyardError as error:
        parser.error(str(error))
    if options.output:
        write_tar(options.output, guest_files)
    else:
        pack(output or sys.stdout.buffer, guest_files)


if __name__ == "__main__":
    main()
