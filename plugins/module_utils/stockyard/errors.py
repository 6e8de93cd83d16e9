# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that the SDK raises on purpose.

::

    StockyardError
    ├── InvalidInput          a value was refused before any change
    ├── MissingDependency     a library or program that the hypervisor needs is not installed
    ├── NotFound              a named object does not exist
    ├── Conflict              an object was changed first (compare and set), or a name is taken
    │   ├── AddressTaken      the address for a new host is in use
    │   └── Busy              another controller holds the object now
    ├── OperationRefused      it would damage an object in use, or one without the owner's marker
    │   ├── LeaseExpired      the lease expired or was released: its holder has lost the host
    │   └── PoolQuotaExceeded the pool, or a parent of it, has insufficient quota
    ├── Unsupported           the hypervisor or the template lacks the capability
    ├── DeadlineExceeded      an operation did not end before its deadline
    ├── UnforeseenError       work on one host ended with an unexpected error
    ├── GuestError            the guest's answer is an error, or is not valid
    │   └── GuestBroken       the guest is lost: its disk has no identity, or a different one
    ├── ImageError            a guest image could not be built or is damaged
    ├── ControllerError       a CI controller could not be reached, or did not do as requested
    └── HypervisorError       the hypervisor failed
        ├── ConnectionFailed  it could not be reached
        └── OutOfSpace        its storage is full
"""

from __future__ import annotations

from collections.abc import Iterable

from .escaping import one_line


class StockyardError(Exception):
    """The base of all errors, with the failure, the object, the cause and the remedy.

    :param message: one sentence: the operation that failed.
    :param name: the object, as ``kind name``.
    :param cause: the underlying reason, as far as it is known.
    :param remedy: the action that the user can take.

    Each part is escaped to one printable line, because guests and programs contribute to it.
    """

    def __init__(self, message: str, *, name: str = "", cause: str = "", remedy: str = "") -> None:
        self.message = one_line(message)
        self.name = one_line(name)
        self.cause = one_line(cause)
        self.remedy = one_line(remedy)
        super().__init__(self.message)

    def without_remedy(self) -> str:
        """Return the object, the failure and the cause in one line."""
        text = f"{self.name}: {self.message}" if self.name else self.message
        return f"{text} Cause: {self.cause.rstrip('.')}." if self.cause else text

    def __str__(self) -> str:
        text = self.without_remedy()
        if self.remedy:
            text += f" Remedy: {self.remedy.rstrip('.')}."
        return text


def joined(message: str, errors: Iterable[BaseException], name: str = "") -> StockyardError:
    """Return one error for several: its cause contains each error, and its remedy the different
    remedies.
    """
    causes: list[str] = []
    remedies: dict[str, None] = {}
    for error in errors:
        if isinstance(error, StockyardError):
            causes.append(error.without_remedy())
            if error.remedy:
                remedies[error.remedy.rstrip(".")] = None
        else:
            causes.append(str(error))
    return StockyardError(message, name=name, cause="; ".join(causes), remedy="; ".join(remedies))


class InvalidInput(StockyardError):
    """A value that was refused before any change."""


class MissingDependency(StockyardError):
    """A required library or program that is not installed."""


class NotFound(StockyardError):
    """A named object that does not exist."""


class Conflict(StockyardError):
    """An object that changed since the caller read it, or a name that is taken."""


class AddressTaken(Conflict):
    """An address for a new host that is in use; a different address may be free."""


class Busy(Conflict):
    """An object that another controller holds now."""


class OperationRefused(StockyardError):
    """An operation that would damage an object in use, or one without the owner's marker."""


class LeaseExpired(OperationRefused):
    """A lease that expired or was released."""


class PoolQuotaExceeded(OperationRefused):
    """A pool with insufficient quota; the cause contains the numbers."""


class Unsupported(StockyardError):
    """A capability that the hypervisor or the template lacks."""


class DeadlineExceeded(StockyardError):
    """An operation that did not end before its deadline."""


class UnforeseenError(StockyardError):
    """An unexpected error in the work on one host; work on the other hosts continues."""


class GuestError(StockyardError):
    """An error that the guest's agent reported, or an answer of the agent that is not valid."""


class GuestBroken(GuestError):
    """A guest that is proven to be lost: the only failure that allows a replacement."""


class ImageError(StockyardError):
    """A guest image that could not be built, or is damaged."""


class ControllerError(StockyardError):
    """A CI controller that could not be reached, or did not do as requested."""


class HypervisorError(StockyardError):
    """A failure of the hypervisor."""


class ConnectionFailed(HypervisorError):
    """A hypervisor that could not be reached."""


class OutOfSpace(HypervisorError):
    """Insufficient space in the hypervisor's storage."""
