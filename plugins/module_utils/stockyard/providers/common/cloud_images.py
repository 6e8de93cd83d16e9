# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud images, copied or downloaded, and held against their checksum while that is done: what is
used is what was looked at, whoever writes to the source meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import urllib.error
from pathlib import Path
from typing import IO, Any

from ... import web
from ...clock import Deadline
from ...errors import DeadlineExceeded, ImageError, OutOfSpace
from ...model.cloud_image import CloudImage

CHUNK = 1 << 20
# No cloud image is larger: a source that never ends must not fill the storage.
LARGEST = 1 << 36
IDLE = 60.0


def fetch(image: CloudImage, target: Path, proxy: str, deadline: Deadline) -> None:
    """Write a cloud image to a file.

    :param proxy: HTTP proxy; empty for the one that the environment names, or none.
    :raises ImageError: when it cannot be had, or is another one.
    """
    try:
        with _open(image, proxy, deadline) as source, target.open("wb") as file:
            found = _copy(source, file, image, deadline)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(image, error, deadline) from error
    if found != image.digits:
        raise ImageError(
            f"its {image.algorithm} is {found}, and not the declared {image.digits}.",
            name=image.title,
            cause="it is damaged, or another version",
            remedy="look up the checksum where the image is published; declare it if it is to be "
            "this version",
        )


def _open(image: CloudImage, proxy: str, deadline: Deadline) -> Any:
    if not image.remote:
        return open(image.location, "rb")
    proxies = {"https": proxy} if proxy else None
    return web.opener(web.Bounds(deadline, LARGEST, IDLE), proxies).open(image.location)


def _copy(source: IO[bytes], target: IO[bytes], image: CloudImage, deadline: Deadline) -> str:
    """Copy to the end; returns the checksum's digits."""
    summed = hashlib.new(image.algorithm)
    while data := source.read(CHUNK):
        deadline.check("fetching it", name=image.title, remedy="give the template a longer timeout")
        summed.update(data)
        target.write(data)
    return summed.hexdigest()


def _failure(image: CloudImage, error: Exception, deadline: Deadline) -> Exception:
    if isinstance(error, urllib.error.HTTPError):
        # It is the answer, too, on a connection that is open.
        error.close()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace(
            "the storage is full.",
            name=image.title,
            cause=str(error),
            remedy="free space in the storage",
        )
    if deadline.passed():
        return DeadlineExceeded(
            "it came too slowly.",
            name=image.title,
            cause=str(error),
            remedy="give the template a longer timeout",
        )
    remedy = (
        "see that it is there and that this machine reaches it"
        if image.remote
        else "see that it can be read"
    )
    return ImageError("it cannot be had.", name=image.title, cause=str(error), remedy=remedy)
