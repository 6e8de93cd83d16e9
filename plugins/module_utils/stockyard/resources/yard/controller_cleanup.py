# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leftovers on the controller: keys of expired leases, incomplete files, sockets of dead
tunnels.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ...errors import InvalidInput
from ...model import naming
from ...model.observation import Observation, OrphanedFile
from ..context import Context


def sweep(ctx: Context, observation: Observation, *, check: bool) -> list[OrphanedFile]:
    """Delete leftover files, or only list them. Other yards may share the directory: each file is
    judged by itself.
    """
    orphans: list[OrphanedFile] = []
    for tenant in _tenants(ctx, observation):
        pki = ctx.pki(tenant)
        orphans += [
            OrphanedFile(str(path), "it expired")
            for path in pki.leftovers(ctx.today(), remove=not check)
        ]
        orphans += [
            OrphanedFile(str(path), "its tunnel ended")
            for path in _dead(pki.directory / "tunnels", remove=not check)
        ]
    return orphans


def _tenants(ctx: Context, observation: Observation) -> list[str]:
    """Return the tenants that were observed, and those with keys on this controller."""
    tenants = {host.record.tenant for host in observation.hosts} | {
        template.record.tenant for template in observation.templates
    }
    parent = ctx.pki("default").directory.parent
    if parent.is_dir():
        tenants |= {
            folder.name
            for folder in parent.iterdir()
            if folder.is_dir() and _is_tenant(folder.name)
        }
    return sorted(tenants)


def _is_tenant(name: str) -> bool:
    try:
        return bool(naming.name("tenant", name))
    except InvalidInput:
        return False


def _dead(folder: Path, *, remove: bool) -> list[Path]:
    """Return the sockets that no process listens at."""
    sockets = (
        [
            candidate
            for candidate in sorted(folder.glob("*"))
            if candidate.is_socket() and not _listens(candidate)
        ]
        if folder.is_dir()
        else []
    )
    for path in sockets if remove else ():
        path.unlink(missing_ok=True)
    return sockets


def _listens(path: Path) -> bool:
    # The path of a socket must be short; through its directory's descriptor it always is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(f"/proc/self/fd/{folder}/{path.name}")
    except ConnectionRefusedError:
        return False
    except OSError:
        pass
    finally:
        os.close(folder)
    return True
