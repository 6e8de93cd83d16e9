# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import Conflict, ConnectionFailed, HypervisorError, NotFound, OutOfSpace, StockyardError

# virErrorNumber of libvirt/virterror.h
NO_DOMAIN = 42
DOM_EXIST = 9
LOST = {38: "system call", 39: "RPC", 7: "internal client socket"}


@contextmanager
def translated(what: str, name: str = "") -> Iterator[None]:
    """Turn a libvirt error inside the block into one of ours; every call to libvirt is made in such a block.

    :param what: what was being done, as in "the domain cannot be …".
    """
    import libvirt

    try:
        yield
    except libvirt.libvirtError as error:
        raise _ours(what, name, error.get_error_code(), str(error)) from error


def _ours(what: str, name: str, code: int | None, text: str) -> StockyardError:
    if code == NO_DOMAIN:
        return NotFound(f"{what}: there is no such domain.", name=name, cause=text)
    if code == DOM_EXIST:
        return Conflict(f"{what}: the name is taken.", name=name, cause=text, remedy="choose another name")
    if "No space left on device" in text:
        return OutOfSpace(f"{what}: the storage is full.", name=name, cause=text, remedy="free space in the storage")
    if code in LOST and any(w in text for w in ("connect", "socket", "hang", "end of file", "Broken pipe")):
        return ConnectionFailed(
            f"{what}: the connection to libvirt was lost.", name=name, cause=text, remedy="start libvirt, run again"
        )
    return HypervisorError(f"{what} failed.", name=name, cause=text)
