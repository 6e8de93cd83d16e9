# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's errors as errors of stockyard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import (
    Conflict,
    ConnectionFailed,
    HypervisorError,
    NotFound,
    OutOfSpace,
    StockyardError,
)

# virErrorNumber of libvirt/virterror.h
NO_DOMAIN = 42
NO_NETWORK = 43
# libvirt has one number for many failures, so the cause is recognized by phrases in its text.
LOST = (
    "Failed to connect",
    "socket is closed",
    "Cannot recv data",
    "Cannot write data: Broken pipe",
    "keepalive",
)
NO_SPACE = "No space left on device"
TAKEN = "already exists"


@contextmanager
def translated(operation: str, name: str = "") -> Iterator[None]:
    """Convert a libvirt error inside the block into a stockyard error.

    Every call to libvirt must be inside such a block.

    :param operation: the operation in the block, as in "the domain cannot be …".
    """
    import libvirt

    try:
        yield
    except libvirt.libvirtError as error:
        raise _ours(operation, name, error.get_error_code(), str(error)) from error


def _ours(operation: str, name: str, code: int | None, text: str) -> StockyardError:
    if code == NO_DOMAIN:
        return NotFound(f"cannot {operation}: the domain does not exist.", name=name, cause=text)
    if code == NO_NETWORK:
        return NotFound(
            f"cannot {operation}: the network does not exist.",
            name=name,
            cause=text,
            remedy="see virsh net-list --all",
        )
    if NO_SPACE in text:
        return OutOfSpace(
            f"cannot {operation}: the storage is full.",
            name=name,
            cause=text,
            remedy="free space in the storage",
        )
    if any(phrase in text for phrase in LOST):
        message = f"cannot {operation}: the connection to libvirt was lost."
        return ConnectionFailed(
            message, name=name, cause=text, remedy="start libvirt, and run again"
        )
    if TAKEN in text:
        return Conflict(
            f"cannot {operation}: the name is in use.",
            name=name,
            cause=text,
            remedy="choose another name",
        )
    return HypervisorError(f"cannot {operation}.", name=name, cause=text)
