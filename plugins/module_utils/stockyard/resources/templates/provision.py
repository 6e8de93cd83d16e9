# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the user's playbook against a template that is made: what counts of it, and the run
itself.

ansible-playbook does the work, in a process of its own: the SDK imports nothing of Ansible. It logs
in by SSH, with a key that is made for the run and a host key that is pinned; both are thrown away
before the freeze.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ...clock import Deadline
from ...errors import Conflict, InvalidInput
from ...hypervisor.provider import Channel
from ...model.network import USER_NETWORK
from ...model.provision import Provision
from ...model.template import TemplateRecord, TemplateSpec
from ..context import Context
from ..hosts.identity import host_key_of
from .playbook import SshTarget, find_program, play, workshop

# More is not a playbook's directory, but the one that somebody keeps everything in.
MOST_FILES, MOST_BYTES = 5000, 256 << 20
# Written by what looks at a playbook or runs it.
LEFT_OUT = ("__pycache__", "collections.lock")
SUFFIXES = (".pyc", ".retry", ".swp")


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """The declaration with the digest of the playbook's content.

    :raises InvalidInput: when a file cannot be read.
    :raises MissingDependency: when there is nothing to run it with: not after minutes of building.
    """
    if spec.provision is None or spec.provision.digest:
        return spec
    find_program()
    return replace(spec, provision=replace(spec.provision, digest=content(spec.provision)))


def content(provision: Provision) -> str:
    """SHA-256 over the names and the content of all that counts: times and owners do not."""
    total, summed = 0, hashlib.sha256()
    for number, (name, path) in enumerate(_files(provision)):
        try:
            data, mode = path.read_bytes(), path.stat().st_mode
        except OSError as error:
            raise _unreadable(path, error) from error
        total += len(data)
        if number >= MOST_FILES or total > MOST_BYTES:
            raise InvalidInput(
                f"provision: there are more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB "
                f"beside it.",
                name=provision.playbook or provision.roles[0],
                remedy="put the playbook into a directory of its own, or say by files what belongs "
                "to it",
            )
        executable = "x" if mode & stat.S_IXUSR else "-"
        summed.update(
            f"{name}\0{executable}\0{hashlib.sha256(data).hexdigest()}\n".encode(
                errors="surrogateescape"
            )
        )
    return summed.hexdigest()


def run(
    ctx: Context, record: TemplateRecord, provision: Provision, channel: Channel, deadline: Deadline
) -> None:
    """Run it against a template that is up, and leave nothing of the way in.

    :raises GuestError: when it fails, with what it said.
    :raises Conflict: when its files changed since the declaration was read.
    """
    if content(provision) != provision.digest:
        raise Conflict(
            f"the {provision.title} changed meanwhile.", name=record.title, remedy="run again"
        )
    with workshop() as work:
        if not ctx.provider.capabilities.endpoints:
            # There is no machine: what can be said without one is whether it is a playbook at all.
            play(provision, SshTarget(record.ssh_user), work, record, deadline, dry=True)
            return
        network = {**asdict(USER_NETWORK), "mac": record.mac}
        request = {"op": "let-in", "network": network, "authorized_keys": [work.public_key()]}
        host_key = host_key_of(channel.request(request, deadline), record)
        with ctx.provider.reach(record, deadline) as (address, port):
            play(
                provision,
                SshTarget(record.ssh_user, address, port, host_key),
                work,
                record,
                deadline,
            )
            channel.request(
                {"op": "let-out", "network": network, "user": record.ssh_user}, deadline
            )


def _files(provision: Provision) -> Iterator[tuple[str, Path]]:
    """Every file that counts, with its name in the digest, in an order of its own."""
    if provision.roles:
        for number, role in enumerate(provision.roles):
            yield from _tree(f"role {number}", _directory(role))
        return
    playbook = _path(provision.playbook)
    if not playbook.is_file():
        raise InvalidInput(
            "provision: there is no such playbook.", name=str(playbook), remedy=WHERE
        )
    if not provision.files:
        yield from _tree("", playbook.parent)
        return
    yield playbook.name, playbook
    for name in sorted(set(provision.files)):
        path = playbook.parent / name
        if path.is_dir():
            yield from _tree(name, path)
        else:
            yield name, path


def _tree(prefix: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The regular files under a directory, links followed. What is hidden is not the playbook's:
    ``.git`` above all.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_stop):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in LEFT_OUT)
        for path in (
            Path(place, n) for n in sorted(names) if not n.startswith(".") and n not in LEFT_OUT
        ):
            if path.suffix not in SUFFIXES and path.is_file():
                yield f"{prefix}/{path.relative_to(folder)}", path


WHERE = "name a path on the machine that opens the hypervisor"


def _stop(error: OSError) -> None:
    raise _unreadable(Path(str(error.filename)), error) from error


def _directory(role: str) -> Path:
    path = _path(role)
    if not path.is_dir():
        raise InvalidInput(
            "provision: there is no such role.", name=str(path), remedy=f"{WHERE}, with tasks in it"
        )
    return path


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        "provision: it cannot be read.", name=str(path), cause=str(error), remedy=WHERE
    )
