# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard volume``: lists, creates, attaches, detaches and deletes volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.volume import VolumeSpec
from . import say
from .command import (
    DRY_RUN,
    JSON,
    TENANT,
    Argument,
    Command,
    Group,
    Option,
    Options,
    timeout,
)
from .durations import change_mode

if TYPE_CHECKING:
    from ..model.volume_info import VolumeInfo
    from ..yard import Yard

NAME = Argument("name", "NAME", "the volume", complete="volume")
HEADINGS = ("NAME", "SIZE", "PHASE", "HOST", "PATH", "SOURCE", "TENANT")
CHANGE = (TENANT, timeout("2m"), DRY_RUN, JSON)


def _list(yard: Yard, options: Options) -> int:
    return say.listing(options, yard.volumes.list(options.tenant or None), HEADINGS, _row)


def _row(volume: VolumeInfo) -> tuple[str, ...]:
    return (
        volume.name,
        f"{volume.size_gib} GiB",
        volume.phase,
        volume.host,
        volume.path,
        volume.source,
        volume.tenant,
    )


def _create(yard: Yard, options: Options) -> int:
    spec = VolumeSpec(
        options.name,
        options.tenant,
        options.size_gib or None,
        options.source,
        options.snapshot,
    )
    return say.changes(options, [yard.volumes.apply(spec, **change_mode(options))], "volumes")


def _attach(yard: Yard, options: Options) -> int:
    result = yard.volumes.attach(
        options.name, options.tenant, host=options.host, path=options.path, **change_mode(options)
    )
    return say.changes(options, [result], "volumes")


def _detach(yard: Yard, options: Options) -> int:
    result = yard.volumes.detach(options.name, options.tenant, **change_mode(options))
    return say.changes(options, [result], "volumes")


def _delete(yard: Yard, options: Options) -> int:
    result = yard.volumes.delete(options.name, options.tenant, **change_mode(options))
    return say.changes(options, [result], "volumes")


VOLUME = Group(
    "volume",
    "manage data volumes, which outlive hosts",
    (
        Command("ls", "list volumes", _list, (Option("--tenant", "only this tenant"), JSON)),
        Command(
            "create",
            "create a volume, or enlarge it",
            _create,
            (
                Argument("name", "NAME", "the volume"),
                Option("--size-gib", "its size; by default 10, or that of its source", 0, kind=int),
                Option("--source", "the volume or snapshot to copy", metavar="VOLUME"),
                Option("--snapshot", "create a snapshot of the source", flag=True),
                *CHANGE,
            ),
        ),
        Command(
            "attach",
            "attach a volume, created if it does not exist, to a running host",
            _attach,
            (
                NAME,
                Argument("host", "HOST", "the host", complete="host"),
                Argument("path", "PATH", "the mount point in the host"),
                *CHANGE,
            ),
        ),
        Command("detach", "detach a volume from its host", _detach, (NAME, *CHANGE)),
        Command("delete", "delete a volume and its data", _delete, (NAME, *CHANGE)),
    ),
)
