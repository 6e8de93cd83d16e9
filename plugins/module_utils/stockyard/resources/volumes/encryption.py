# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted volumes: which volumes are encrypted, the key of each, and hosts that wait for keys.

The user gives one secret, and each volume has its own key that is derived from it, so a guest that
reveals its key opens no other volume. Keys travel by the hypervisor's channel to a host's agent and
are on record nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from ...errors import GuestError, InvalidInput, Unsupported
from ...model.host import Host
from ...model.volume import VolumeRecord
from ..context import Context
from ..guest_status import Status

# The first agent that knows encrypted volumes.
LEAST = 32
# The error of an agent when a key does not open a disk.
WRONG = "PermissionError"
REMEDY = "set volume_key, from a vault, to its value at the creation of the volumes"


def check_secret(secret: str) -> str:
    """Refuse a secret that could be guessed.

    :raises InvalidInput: with a command that creates a secret.
    """
    if secret and (len(secret) < LEAST or len(set(secret)) < 8):
        raise InvalidInput(
            f"volume_key must have at least {LEAST} random characters.",
            remedy="generate a key with openssl rand -hex 32",
        )
    return secret


def key_of(ctx: Context, volume: VolumeRecord) -> str:
    """Return the key of an encrypted volume, in hex; an empty string for a volume in clear.

    :raises InvalidInput: if there is no secret to derive it from.
    """
    if not volume.encryption_id:
        return ""
    if not ctx.volume_key:
        raise InvalidInput(
            "the volume is encrypted, and volume_key is not set.", name=volume.title, remedy=REMEDY
        )
    message = f"stockyard volume {volume.encryption_id}".encode()
    return hmac.new(ctx.volume_key.encode(), message, hashlib.sha256).hexdigest()


def check(ctx: Context, title: str, encrypted: bool, volumes: Iterable[VolumeRecord]) -> None:
    """Refuse volumes that a host cannot open: its volumes must all be encrypted, or all in clear.

    :param title: the host, or its template, as messages name it.
    :raises Unsupported: with the remedy.
    :raises InvalidInput: if the key is missing.
    """
    if encrypted and not ctx.volume_key:
        raise InvalidInput(
            "the volumes of the host are encrypted, and volume_key is not set.",
            name=title,
            remedy=REMEDY,
        )
    for volume in volumes:
        if encrypted and volume.filesystem and not volume.encryption_id:
            raise Unsupported(
                f"the volume is not encrypted, and hosts of {title} use only encrypted volumes.",
                name=volume.title,
                remedy="create another volume, and copy the data",
            )
        if volume.encryption_id and not encrypted:
            raise Unsupported(
                f"the volume is encrypted, and hosts of {title} cannot open encrypted volumes.",
                name=volume.title,
                remedy="declare the template with security.encrypted_data",
            )


@contextmanager
def explained(key: str) -> Iterator[None]:
    """Name the key as the cause if a guest reports that the key does not open a volume.

    :param key: the key in the request; an empty string for none.
    :raises InvalidInput: if the key does not open the volume.
    """
    try:
        yield
    except GuestError as error:
        if key and WRONG in error.cause:
            raise InvalidInput(
                "volume_key differs from the key that the volume was encrypted with.", remedy=REMEDY
            ) from error
        raise


def locked(hosts: Iterable[Host], answers: Mapping[str, Status]) -> dict[str, str]:
    """Return the hosts that booted by themselves and wait for the keys of their volumes, by name,
    each with the reason.

    :param answers: the status of each host, by uuid.
    """
    missing_paths = {
        host.record.name: answers.get(host.record.uuid, Status()).missing
        for host in hosts
        if host.record.encrypted
    }
    return {
        name: f"it waits for the key of its volume at {', '.join(paths)}"
        for name, paths in missing_paths.items()
        if paths
    }
