# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's playbook for a template under construction: the digest of its content, and its run.

ansible-playbook does the work, in a separate process: the SDK imports nothing of Ansible. It logs
in by SSH, with a key that is created for the run and a pinned host key; both are deleted before the
freeze.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...clock import Deadline
from ...errors import Conflict, InvalidInput
from ...guest.client import Guest
from ...model.provision import Provision
from ...model.template import TemplateRecord, TemplateSpec
from ...paths import expand_user
from ..context import Context
from . import template_shell
from .playbook import SshTarget, find_program, play, workshop

# These limits catch a playbook that was placed in a home directory by mistake.
MOST_FILES, MOST_BYTES = 5000, 256 << 20
# Written by the programs that read a playbook or run it.
LEFT_OUT = ("__pycache__", "collections.lock")
SUFFIXES = (".pyc", ".retry", ".swp")


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """Return the declaration with the digest of the playbook's content.

    :raises InvalidInput: if a file cannot be read.
    :raises MissingDependency: if ansible-playbook is not installed: before a build that takes
        minutes.
    """
    if spec.provision is None or spec.provision.digest:
        return spec
    find_program()
    return replace(spec, provision=replace(spec.provision, digest=content(spec.provision)))


def content(provision: Provision) -> str:
    """Return the SHA-256 of the names, contents and executable bits of all files that count; times
    and owners do not count.
    """
    total, digest = 0, hashlib.sha256()
    for number, (name, path) in enumerate(_files(provision)):
        try:
            data, mode = path.read_bytes(), path.stat().st_mode
        except OSError as error:
            raise _unreadable(path, error) from error
        total += len(data)
        if number >= MOST_FILES or total > MOST_BYTES:
            raise InvalidInput(
                f"provision: the directory of the playbook has more than {MOST_FILES} files or "
                f"{MOST_BYTES >> 20} MiB.",
                name=provision.playbook or provision.roles[0],
                remedy="move the playbook to a separate directory, or list its files in files",
            )
        executable = "x" if mode & stat.S_IXUSR else "-"
        digest.update(
            f"{name}\0{executable}\0{hashlib.sha256(data).hexdigest()}\n".encode(
                errors="surrogateescape"
            )
        )
    return digest.hexdigest()


def run(
    ctx: Context, record: TemplateRecord, provision: Provision, guest: Guest, deadline: Deadline
) -> None:
    """Run a playbook against a template that is up, and remove the SSH access afterwards.

    :raises GuestError: if the playbook fails, with its output.
    :raises Conflict: if its files changed since the declaration was read.
    """
    if content(provision) != provision.digest:
        raise Conflict(
            f"the {provision.title} changed during the run.", name=record.title, remedy="run again"
        )
    if not ctx.provider.capabilities.endpoints:
        # Without a machine, only the syntax of the playbook can be checked.
        with workshop() as workspace:
            play(provision, SshTarget(record.ssh_user), workspace, record, deadline, dry=True)
        return
    with template_shell.connected(ctx, record, guest, deadline) as (target, workspace):
        play(provision, target, workspace, record, deadline)


def _files(provision: Provision) -> Iterator[tuple[str, Path]]:
    """Yield every file that counts, with its name in the digest, in a defined order."""
    if provision.roles:
        for number, role in enumerate(provision.roles):
            yield from _tree(f"role {number}", _directory(role))
        return
    playbook = _path(provision.playbook)
    if not playbook.is_file():
        raise InvalidInput(
            "provision: the playbook does not exist.", name=str(playbook), remedy=WHERE
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
    """Yield the regular files under a directory, links followed. Hidden files are no part of a
    playbook, above all ``.git``.
    """
    visited_ids: set[tuple[int, int]] = set()
    for directory, folders, names in os.walk(folder, followlinks=True, onerror=_stop):
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in visited_ids:
            folders.clear()
            continue
        visited_ids.add((status.st_dev, status.st_ino))
        folders[:] = sorted(
            entry for entry in folders if not entry.startswith(".") and entry not in LEFT_OUT
        )
        for path in (
            Path(directory, entry)
            for entry in sorted(names)
            if not entry.startswith(".") and entry not in LEFT_OUT
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
            "provision: the role does not exist.",
            name=str(path),
            remedy=f"{WHERE}, with tasks in the role",
        )
    return path


def _path(text: str) -> Path:
    return expand_user(text).absolute()


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        "provision: the file cannot be read.", name=str(path), cause=str(error), remedy=WHERE
    )
