# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a security profile is made of inside a host: packages and files. Pure; changes nothing.

The only source of it: the image recipe bakes these files into templates, the roles put the same
ones on hosts that are there already, and the module ``audit`` compares a running host with the same
settings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ...model import codec
from ...model.recipe import GuestFile
from ...model.security import Settings
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
    """What goes into a host.

    :param packages: Debian packages.
    :param files: by their path.
    :param enable: units of ours that are to be started at boot; their links are not among the
        files.
    :param daemon: the keys of Docker's ``daemon.json`` that the profile sets.
    :param masked: units that are kept from starting.
    """

    packages: tuple[str, ...]
    files: dict[str, GuestFile]
    enable: tuple[str, ...] = ()
    daemon: dict[str, object] = field(default_factory=dict)
    masked: tuple[str, ...] = ()


def bundle(settings: Settings, user: str) -> Bundle:
    """Packages, files and units of a profile.

    :param user: the login of the host, who may use Docker.
    """
    themes = (
        kernel.part,
        limits.part,
        disk.part,
        encryption.part,
        firewall.part,
        login.part,
        records.part,
        authorization.part,
        request_reader.part,
    )
    parts = [part(settings) for part in themes]
    parts += (
        [rootless.part(user), daemon.rootless(settings)]
        if settings.user_namespaces == "rootless"
        else []
    )
    parts += [daemon.part(settings)] if settings.user_namespaces != "rootless" else []
    files = {MARKER: GuestFile(marker(settings))}
    for part in parts:
        files |= part.files
    return Bundle(
        packages=tuple(sorted({p for part in parts for p in part.packages})),
        files=files,
        enable=tuple(u for part in parts for u in part.enable),
        daemon=daemon.keys(settings),
        masked=tuple(u for part in parts for u in part.masked),
    )


def marker(settings: Settings) -> str:
    """What the host is to be like, for whoever looks at it later."""
    return json.dumps(codec.to_dict(settings), indent=1, sort_keys=True) + "\n"
