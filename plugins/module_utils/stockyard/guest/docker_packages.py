# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of Docker, and the paths of their programs: those of Debian or those of Docker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..model.image import DOCKER_CE


@dataclass(frozen=True)
class DockerPackages:
    """The packages of Docker.

    :param names: the packages of daemon and client.
    :param rootless: the packages of a rootless daemon.
    :param dockerd: the path of the daemon.
    :param runc: the path of the default runtime.
    :param rootless_script: the path of the script that starts a rootless daemon.
    """

    names: tuple[str, ...]
    rootless: tuple[str, ...]
    dockerd: str
    runc: str
    rootless_script: str


DEBIAN = DockerPackages(
    names=("docker.io",),
    rootless=("rootlesskit",),
    dockerd="/usr/sbin/dockerd",
    runc="/usr/sbin/runc",
    rootless_script="/usr/share/docker.io/contrib/dockerd-rootless.sh",
)
# https://docs.docker.com/engine/install/debian/. Docker's package for rootless daemons contains
# rootlesskit and conflicts with Debian's.
_DOCKER_CE = DockerPackages(
    names=("containerd.io", "docker-ce", "docker-ce-cli"),
    rootless=("docker-ce-rootless-extras",),
    dockerd="/usr/bin/dockerd",
    runc="/usr/bin/runc",
    rootless_script="/usr/bin/dockerd-rootless.sh",
)


def choose(kind: str, suite: str) -> DockerPackages:
    """Return the packages of a kind.

    :param kind: one of :data:`..model.image.DOCKER_PACKAGES`.
    :param suite: Debian release. Debian 13 split the client from the daemon's package.
    """
    if kind == DOCKER_CE:
        return _DOCKER_CE
    if suite == "bookworm":
        return DEBIAN
    return replace(DEBIAN, names=(*DEBIAN.names, "docker-cli"))
