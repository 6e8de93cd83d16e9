# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud images, copied or downloaded.

The checksum is computed during the copy: the copied data is the verified data, even if another
program writes to the source at the same time.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
from pathlib import Path
from typing import IO, Any

from ... import web
from ...clock import Deadline
from ...errors import DeadlineExceeded, ImageError, OutOfSpace
from ...model.cloud_image import CloudImage
from .os_errors import is_full

CHUNK = 1 << 20
# No cloud image is larger: a source that never ends must not fill the storage.
LARGEST = 1 << 36
IDLE = 60.0


def fetch(image: CloudImage, target: Path, proxy: str, deadline: Deadline) -> None:
    """Write a cloud image to a file.

    :param proxy: HTTP proxy; if empty, the proxy of the environment, or none.
    :raises ImageError: if it cannot be read, or has another checksum.
    """
    try:
        with _open(image, proxy, deadline) as source, target.open("wb") as file:
            digits = _copy(source, file, image, deadline)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(image, error, deadline) from error
    if digits != image.digits:
        raise ImageError(
            f"the image's {image.algorithm} is {digits}, not the declared {image.digits}.",
            name=image.title,
            cause="the image is damaged, or a different version",
            remedy="compare the published checksum, and declare it if this version is intended",
        )


def _open(image: CloudImage, proxy: str, deadline: Deadline) -> Any:
    if not image.remote:
        return open(image.location, "rb")
    proxies = {"https": proxy} if proxy else None
    return web.opener(web.Bounds(deadline, LARGEST, IDLE), proxies).open(image.location)


def _copy(source: IO[bytes], target: IO[bytes], image: CloudImage, deadline: Deadline) -> str:
    """Copy to the end; return the checksum's digits."""
    hasher = hashlib.new(image.algorithm)
    while data := source.read(CHUNK):
        deadline.check(
            "fetching the image", name=image.title, remedy="give the template a longer timeout"
        )
        hasher.update(data)
        target.write(data)
    return hasher.hexdigest()


def _failure(image: CloudImage, error: Exception, deadline: Deadline) -> Exception:
    if isinstance(error, urllib.error.HTTPError):
        # The error is also the response, on a connection that is still open.
        error.close()
    if is_full(error):
        return OutOfSpace(
            "the storage is full.",
            name=image.title,
            cause=str(error),
            remedy="free space in the storage",
        )
    if deadline.passed():
        return DeadlineExceeded(
            "the download did not end in time.",
            name=image.title,
            cause=str(error),
            remedy="give the template a longer timeout",
        )
    remedy = (
        "check that the URL exists and that this machine can reach it"
        if image.remote
        else "check that this user can read the file"
    )
    return ImageError(
        "the image cannot be fetched.", name=image.title, cause=str(error), remedy=remedy
    )
