# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages and files of a security profile in a host. Pure; changes nothing.

This package is their only source: the image recipe adds the files to templates, the roles install
the same files on existing hosts, and the module ``audit`` compares a running host with the same
settings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial

from ...model import codec
from ...model.recipe import GuestFile
from ...model.security import Settings
from ..docker_packages import DEBIAN, DockerPackages
from . import (
    authorization,
    daemon,
    disk,
    encryption,
    firewall,
    kernel,
    limits,
    login,
    records,
    request_reader,
    rootless,
)

MARKER = "/etc/stockyard/security.json"


@dataclass(frozen=True)
class Bundle:
    """The contents of a security profile.

    :param packages: Debian packages.
    :param files: files by path.
    :param enable: stockyard's units that must start at boot; their links are not in ``files``.
    :param daemon: keys of Docker's ``daemon.json`` that the profile sets.
    :param masked: units that must not start.
    """

    packages: tuple[str, ...]
    files: dict[str, GuestFile]
    enable: tuple[str, ...] = ()
    daemon: dict[str, object] = field(default_factory=dict)
    masked: tuple[str, ...] = ()


def bundle(settings: Settings, user: str, docker: DockerPackages = DEBIAN) -> Bundle:
    """Return the packages, files and units of a profile.

    :param user: login of the host, which may use Docker.
    :param docker: the packages of Docker.
    """
    themes = (
        kernel.part,
        limits.part,
        disk.part,
        encryption.part,
        firewall.part,
        login.part,
        partial(records.part, docker=docker),
        authorization.part,
        request_reader.part,
    )
    parts = [part(settings) for part in themes]
    parts += (
        [rootless.part(user, docker), daemon.rootless(settings)]
        if settings.user_namespaces == "rootless"
        else []
    )
    parts += [daemon.part(settings)] if settings.user_namespaces != "rootless" else []
    files = {MARKER: GuestFile(marker(settings))}
    for part in parts:
        files |= part.files
    return Bundle(
        packages=tuple(sorted({package for part in parts for package in part.packages})),
        files=files,
        enable=tuple(unit for part in parts for unit in part.enable),
        daemon=daemon.keys(settings),
        masked=tuple(unit for part in parts for unit in part.masked),
    )


def marker(settings: Settings) -> str:
    """Return the settings of the host as JSON, for later checks such as the audit."""
    return json.dumps(codec.to_dict(settings), indent=1, sort_keys=True) + "\n"
