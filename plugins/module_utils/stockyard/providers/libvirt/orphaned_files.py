# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in the store that no domain refers to: leftovers of killed controllers and of ``virsh
undefine``.

If a listing is incomplete or a domain cannot be read, nothing that it may refer to is deleted. The
store may serve several owners and, if so configured, several libvirt connections: the note in each
directory distinguishes them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ...errors import HypervisorError, InvalidInput
from ...files import is_temporary
from ...model.host import HostRecord
from ...model.observation import OrphanedFile, Record, SweepResult, UnreadableObject
from ..common import locks, ownership
from . import processes
from .images import Images
from .store import Store

NOTE = "owner.json"


@dataclass(frozen=True)
class Domains:
    """All facts about the domains of a connection at one moment.

    :param records: of any owner.
    :param unreadable: domains with a marker that cannot be read.
    :param texts: the definitions of every domain, with or without a marker: the running and the
        stored one.
    """

    records: tuple[Record, ...]
    unreadable: tuple[UnreadableObject, ...]
    texts: tuple[str, ...]


def note(folder: Path, uri: str, record: Record) -> None:
    """Write the owner's note into a directory."""
    ownership.write(folder / NOTE, uri, record)


def lock_name(owner: str, uuid: str) -> str:
    """Return the name of the lock of files that have no domain yet."""
    return f"{owner}.machine.{uuid}"


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
    """Find files that nothing refers to, and delete them unless only a check is requested.

    Call it under the registry's lock: no template is being put on record at that time.
    """
    orphans: list[OrphanedFile] = []
    skipped: list[OrphanedFile] = []
    definitions, pids = "\n".join(domains.texts), processes.running()
    for path in sorted([*store.hosts.iterdir(), *store.templates.iterdir()]):
        if path.name in definitions:
            continue
        reason = f"QEMU process {pids[path.name]} uses the file" if path.name in pids else ""
        if not reason and locks.is_name_held(store.locks, lock_name(owner, path.name)):
            reason = "a controller receives the template"
        removable, retained = ownership.sorted_out(
            path, reason or _why_not(path, domains, uri, owner, older_than)
        )
        orphans, skipped = orphans + removable, skipped + retained
    # The whole store was read without an error; files are deleted only from here on.
    for orphan in () if check else orphans:
        shutil.rmtree(orphan.path)
    orphans += [
        OrphanedFile(str(entry), "its builder ended")
        for entry in images.abandoned(older_than, remove=not check)
    ]
    orphans += [
        OrphanedFile(str(entry), "no process holds the lock")
        for entry in locks.free(store.locks, owner, remove=not check)
    ]
    return SweepResult(tuple(orphans), tuple(skipped))


def _why_not(path: Path, domains: Domains, uri: str, owner: str, older_than: float) -> str:
    """Return the reason to retain a file that no domain refers to; empty if it can be deleted."""
    if path.is_symlink() or not path.is_dir() or not ownership.is_name(path.name):
        return "the directory does not belong to stockyard"
    try:
        if all(is_temporary(entry) for entry in path.iterdir()):
            # Created by a controller that died at once. The directory contains nothing to lose.
            return ownership.too_young(path, older_than)
        record = ownership.read(path / NOTE, uri, owner, path.name)
        return _in_use(record, domains) or ownership.too_young(path, older_than)
    except InvalidInput as error:
        return str(error)
    except OSError as error:
        raise HypervisorError(
            "the storage cannot be read; nothing was deleted.", name=str(path), cause=str(error)
        ) from error


def _in_use(record: Record, domains: Domains) -> str:
    """Return the reason why the files of a template without a domain must be retained.

    The definitions of hosts do not name the disks under their overlays, so the records are read.
    """
    if isinstance(record, HostRecord):
        return ""
    if domains.unreadable:
        return f"an unreadable domain may be a host of the template ({domains.unreadable[0].name})"
    key = (record.owner, record.tenant, record.name, record.generation)
    hosts = [host for host in domains.records if isinstance(host, HostRecord)]
    host_names = sorted(
        host.name
        for host in hosts
        if (host.owner, host.tenant, host.template, host.generation) == key
    )
    return f"hosts of the template exist: {', '.join(host_names[:10])}" if host_names else ""
