# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left on the controller itself: keys of leases that ran out, half-written files, sockets
of dead tunnels.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ...errors import InvalidInput
from ...model import naming
from ...model.observation import Observation, OrphanedFile
from ..context import Context


def sweep(ctx: Context, seen: Observation, *, check: bool) -> list[OrphanedFile]:
    """Remove it, or only say what there is. Other yards may share the directory: each thing is
    judged by itself.
    """
    found: list[OrphanedFile] = []
    for tenant in _tenants(ctx, seen):
        pki = ctx.pki(tenant)
        found += [
            OrphanedFile(str(p), "it is over") for p in pki.leftovers(ctx.today(), remove=not check)
        ]
        found += [
            OrphanedFile(str(p), "its tunnel is gone")
            for p in _dead(pki.directory / "tunnels", remove=not check)
        ]
    return found


def _tenants(ctx: Context, seen: Observation) -> list[str]:
    """The tenants that are seen, and those whose keys are here."""
    found = {h.record.tenant for h in seen.hosts} | {t.record.tenant for t in seen.templates}
    parent = ctx.pki("default").directory.parent
    if parent.is_dir():
        found |= {p.name for p in parent.iterdir() if p.is_dir() and _is_tenant(p.name)}
    return sorted(found)


def _is_tenant(name: str) -> bool:
    try:
        return bool(naming.name("tenant", name))
    except InvalidInput:
        return False


def _dead(folder: Path, *, remove: bool) -> list[Path]:
    """Sockets that nobody listens at."""
    found = (
        [p for p in sorted(folder.glob("*")) if p.is_socket() and not _listens(p)]
        if folder.is_dir()
        else []
    )
    for path in found if remove else ():
        path.unlink(missing_ok=True)
    return found


def _listens(path: Path) -> bool:
    # The path of a socket is short; by way of its directory's descriptor every one is.
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
