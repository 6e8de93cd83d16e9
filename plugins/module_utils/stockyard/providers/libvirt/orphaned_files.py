# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in the store that no domain refers to: what was left by killed controllers and by ``virsh
undefine``.

A listing that is not whole, or a domain that cannot be read, is a reason to leave things alone. The
store may serve several owners and, for who configures it so, several libvirt connections: the note
in each directory tells them apart.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ...errors import HypervisorError, InvalidInput
from ...model.host import HostRecord
from ...model.observation import OrphanedFile, Record, SweepResult, UnreadableObject
from ..common import locks, ownership
from . import processes
from .images import Images
from .store import Store

NOTE = "owner.json"


@dataclass(frozen=True)
class Domains:
    """All that is known of the domains of a connection at one moment.

    :param records: of any owner.
    :param strangers: what carries our mark and cannot be read.
    :param texts: the definition of every domain, ours or not, the running one and the one on disk.
    """

    records: tuple[Record, ...]
    unreadable: tuple[UnreadableObject, ...]
    texts: tuple[str, ...]


def note(folder: Path, uri: str, record: Record) -> None:
    """Say in a directory whose it is."""
    ownership.write(folder / NOTE, uri, record)


def sweep(
    store: Store,
    images: Images,
    domains: Domains,
    uri: str,
    owner: str,
    older_than: float,
    *,
    check: bool,
) -> SweepResult:
    """Find what nothing refers to, and remove it unless it is only to be looked for. Call it under
    the registry's lock: no template is being put on record then.
    """
    gone: list[OrphanedFile] = []
    left: list[OrphanedFile] = []
    said, running = "\n".join(domains.texts), processes.running()
    for path in sorted([*store.hosts.iterdir(), *store.templates.iterdir()]):
        if path.name in said:
            continue
        why_not = f"QEMU process {running[path.name]} uses it" if path.name in running else ""
        goes, stays = ownership.sorted_out(
            path, why_not or _why_not(path, domains, uri, owner, older_than)
        )
        gone, left = gone + goes, left + stays
    # All of it was read: only now anything goes.
    for found in () if check else gone:
        shutil.rmtree(found.path)
    gone += [
        OrphanedFile(str(p), "who built it died")
        for p in images.abandoned(older_than, remove=not check)
    ]
    gone += [
        OrphanedFile(str(p), "nobody holds it")
        for p in locks.free(store.locks, owner, remove=not check)
    ]
    return SweepResult(tuple(gone), tuple(left))


def _why_not(path: Path, domains: Domains, uri: str, owner: str, older_than: float) -> str:
    """Why something that no domain names is left alone; empty when it is not."""
    if path.is_symlink() or not path.is_dir() or not ownership.is_name(path.name):
        return "it is none of our directories"
    try:
        if not any(path.iterdir()):
            # Made by a controller that died at once. There is nothing in it to lose.
            return ownership.too_young(path, older_than)
        record = ownership.read(path / NOTE, uri, owner, path.name)
        return _in_use(record, domains) or ownership.too_young(path, older_than)
    except InvalidInput as error:
        return str(error)
    except OSError as error:
        raise HypervisorError(
            "the storage cannot be read: nothing is removed.", name=str(path), cause=str(error)
        ) from error


def _in_use(record: Record, domains: Domains) -> str:
    """Why the files of a template that has no domain any more stay: overlays name no disk in their
    definitions.
    """
    if isinstance(record, HostRecord):
        return ""
    if domains.unreadable:
        return f"a domain that cannot be read may live on it ({domains.unreadable[0].name})"
    key = (record.owner, record.tenant, record.name, record.generation)
    hosts = [r for r in domains.records if isinstance(r, HostRecord)]
    users = sorted(r.name for r in hosts if (r.owner, r.tenant, r.template, r.generation) == key)
    return f"hosts live on it: {', '.join(users[:10])}" if users else ""
