# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a volume."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True, kw_only=True)
class VolumeInfo(Info):
    """A volume or a snapshot.

    :param name: the volume's name.
    :param tenant: the tenant that the volume belongs to.
    :param uuid: the UUID of the volume. Its first 20 digits are the serial number of the disk in a
        host.
    :param size_gib: the virtual size of the volume, in GiB.
    :param allocated: the storage that the volume itself uses, in bytes.
    :param shared: the storage that the volume shares with its copies or its source, in bytes.
    :param disk: the path of the volume's disk. Empty for a snapshot, or if it is not
        known.
    :param filesystem: the file system of the volume: ``ext4``, empty before the volume is first
        attached, or ``making`` if its creation was interrupted.
    :param source: the volume or snapshot that it was copied from. Empty if it was created empty.
    :param snapshot: whether the volume is a snapshot.
    :param encrypted: whether the volume is encrypted. The template of the first host that the
        volume is attached to decides this.
    :param host: the host that the volume is attached to. Empty if there is none.
    :param path: the path in the host at which the volume is mounted.
    :param mounted: whether the mount is complete.
    :param phase: the phase of the volume's record: ``creating``, ``ready`` or ``deleting``.
    :param created: the time of creation, in seconds since the epoch.
    """

    name: str
    tenant: str
    uuid: str
    size_gib: int
    allocated: int
    shared: int
    disk: str
    filesystem: str
    source: str
    snapshot: bool
    encrypted: bool
    host: str
    path: str
    mounted: bool
    phase: str
    created: float
