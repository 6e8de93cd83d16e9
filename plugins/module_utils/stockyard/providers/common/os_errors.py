# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the file system of a storage, as errors of stockyard."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import HypervisorError, OutOfSpace, StockyardError

FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the storage, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in FULL


@contextmanager
def translate_os_error(
    message: str, name: str, remedy: str = "", error_type: type[StockyardError] = HypervisorError
) -> Iterator[None]:
    """Convert an error of the file system inside the block into an error of stockyard.

    :param message: the operation that failed.
    :param name: the object of the operation.
    :param error_type: the type of the error, unless the storage is full.
    :raises OutOfSpace: if the storage is full.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise OutOfSpace(
                message, name=name, cause=str(error), remedy="free space in the storage"
            ) from error
        raise error_type(message, name=name, cause=str(error), remedy=remedy) from error
