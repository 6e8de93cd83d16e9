# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error that the SDK raises on purpose.

::

    StockyardError
    ├── InvalidInput          a value was refused before anything was changed
    ├── MissingDependency     a library or program that the chosen hypervisor needs is not installed
    ├── NotFound              a named object does not exist
    ├── Conflict              an object changed meanwhile (compare and set), or a name is taken
    │   ├── AddressTaken      the address that a new host was to have is somebody else's
    │   └── Busy              another controller holds the object now
    ├── OperationRefused      doing it would hurt something living or something that is not ours
    │   ├── LeaseExpired      the lease ran out, or was given back: its host is the holder's no more
    │   └── PoolQuotaExceeded the pool, or one around it, has no room for it
    ├── Unsupported           this hypervisor, or this template, lacks the capability
    ├── DeadlineExceeded      a bounded wait ran out
    ├── UnforeseenError       work on one host ended with an error that nobody expected
    ├── GuestError            the guest answered, and the answer is an error or makes no sense
    │   └── GuestBroken       the guest is lost: its disk has no identity, or another one
    ├── ImageError            a guest image could not be built or is damaged
    ├── ControllerError       a CI controller could not be reached, or did not do what it was asked
    └── HypervisorError       the hypervisor failed
        ├── ConnectionFailed  it could not be reached
        └── OutOfSpace        its storage is full
"""

from __future__ import annotations

from .escaping import one_line


class StockyardError(Exception):
    """Base of all errors. Says what happened, to which object, why, and what to do about it.

    :param message: one sentence: what could not be done.
    :param name: the object, as ``kind name``.
    :param cause: the underlying reason, as far as it is known.
    :param remedy: what the user can do.

    Each part is one printable line, whatever guests or programs put into it.
    """

    def __init__(self, message: str, *, name: str = "", cause: str = "", remedy: str = "") -> None:
        self.message = one_line(message)
        self.name = one_line(name)
        self.cause = one_line(cause)
        self.remedy = one_line(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        text = f"{self.name}: {self.message}" if self.name else self.message
        if self.cause:
            text += f" Cause: {self.cause.rstrip('.')}."
        if self.remedy:
            text += f" Remedy: {self.remedy.rstrip('.')}."
        return text


class InvalidInput(StockyardError):
    """A value was refused before anything was changed."""


class MissingDependency(StockyardError):
    """A library or a program that is needed is not installed."""


class NotFound(StockyardError):
    """A named object does not exist."""


class Conflict(StockyardError):
    """The object is no longer what the caller saw, or its name is taken."""


class AddressTaken(Conflict):
    """The address that a new host was to have is somebody else's: another one may be free."""


class Busy(Conflict):
    """Another controller holds the object now."""


class OperationRefused(StockyardError):
    """Doing it would hurt something living or something that is not ours."""


class LeaseExpired(OperationRefused):
    """The lease ran out or was given back."""


class PoolQuotaExceeded(OperationRefused):
    """A pool has no room for it; the cause holds the numbers."""


class Unsupported(StockyardError):
    """The hypervisor or the template cannot do it."""


class DeadlineExceeded(StockyardError):
    """A bounded wait ran out."""


class UnforeseenError(StockyardError):
    """Work on one host ended with an error that nobody expected; the other hosts go on."""


class GuestError(StockyardError):
    """The guest's agent reported an error or said something that makes no sense."""


class GuestBroken(GuestError):
    """The guest is proven to be lost: the only failure that another host may be made for in its
    place.
    """


class ImageError(StockyardError):
    """A guest image could not be built, or is damaged."""


class ControllerError(StockyardError):
    """A CI controller could not be reached, or did not do what it was asked."""


class HypervisorError(StockyardError):
    """The hypervisor failed."""


class ConnectionFailed(HypervisorError):
    """The hypervisor could not be reached."""


class OutOfSpace(HypervisorError):
    """The hypervisor's storage is full."""
