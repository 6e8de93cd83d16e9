# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The translation of vSphere's faults into errors of stockyard.

Each error names the object, the cause and the remedy.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from xml.parsers.expat import ExpatError

from ...errors import (
    Busy,
    Conflict,
    ConnectionFailed,
    HypervisorError,
    NotFound,
    OutOfSpace,
    StockyardError,
    Unsupported,
)
from . import api

# The exceptions of a broken connection; an answer that was cut short is not XML.
LOST = (OSError, HTTPException, ExpatError)
Maker = Callable[[str, str, Any], StockyardError]


@contextmanager
def translated(action: str, name: str = "") -> Iterator[None]:
    """Translate a vSphere fault or a lost connection inside the block into a stockyard error.

    :param action: the action in progress, as in "clone the machine".
    """
    try:
        yield
    except api.vmodl().MethodFault as fault:
        raise of_fault(action, name, fault) from fault
    except LOST as error:
        raise lost(action, name, error) from error


def lost(action: str, name: str, error: BaseException) -> ConnectionFailed:
    """Return the error for a connection to vCenter that broke or could not be opened."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            "vCenter's certificate is not believed.",
            name=name,
            cause=error.verify_message or str(error),
            remedy="give ca_path, the CA that signed it (vCenter offers its own at "
            "/certs/download.zip), or mend it",
        )
    return ConnectionFailed(
        f"{action}: the connection to vCenter failed.",
        name=name,
        cause=f"{type(error).__name__}: {error}",
        remedy="look whether vCenter is up, and run again: what was begun is found and gone on "
        "with",
    )


def kinds(fault: Any) -> list[str]:
    """Return the names of a fault's type and base types, nearest first, without packages."""
    return [kind.__name__.rpartition(".")[2] for kind in type(fault).__mro__]


def is_a(fault: Any, *names: str) -> bool:
    """Check whether a fault is of one of these types."""
    return any(kind in names for kind in kinds(fault))


def of_fault(action: str, name: str, fault: Any) -> StockyardError:
    """Return the error for a fault, by the nearest of its types that has an error of its own."""
    for kind in kinds(fault):
        if kind in MAKERS:
            return MAKERS[kind](action, name, fault)
    remedy = "look at the task in vCenter, mend what it names, and run again"
    return HypervisorError(f"{action} failed.", name=name, cause=said(fault), remedy=remedy)


def said(fault: Any) -> str:
    """Return the text of a fault: its type, its message, and the messages that vCenter attached."""
    texts = [str(getattr(fault, "msg", "") or "")]
    texts += [
        str(entry.message)
        for entry in getattr(fault, "faultMessage", None) or []
        if getattr(entry, "message", "")
    ]
    reason = getattr(fault, "reason", None)
    texts += [str(reason)] if reason else []
    details = "; ".join(dict.fromkeys(text for text in texts if text))
    return f"{kinds(fault)[0]}: {details}"[:500] if details else kinds(fault)[0]


def _no_permission(action: str, name: str, fault: Any) -> StockyardError:
    privilege, ref = (
        getattr(fault, "privilegeId", "") or "a privilege",
        getattr(fault, "object", None),
    )
    location = f" on {type(ref).__name__.rpartition('.')[2]} {ref._moId}" if ref is not None else ""
    return HypervisorError(
        f"{action}: the privilege {privilege} is missing{location}.",
        name=name,
        cause=said(fault),
        remedy="give the user's role that privilege; a look at the hypervisor's problems names all "
        "that are missing",
    )


def _not_supported(action: str, name: str, fault: Any) -> StockyardError:
    remedy = "use a vCenter that can, or another fork_mode"
    return Unsupported(
        f"{action}: this vCenter cannot do it.", name=name, cause=said(fault), remedy=remedy
    )


def _power(action: str, name: str, fault: Any) -> StockyardError:
    state = getattr(fault, "existingState", "")
    return Conflict(
        f"{action}: its machine is {state or 'in another state'}.",
        name=name,
        cause=said(fault),
        remedy="run again",
    )


def _no_space(action: str, name: str, fault: Any) -> StockyardError:
    store = getattr(fault, "datastore", "") or "of its disks"
    return OutOfSpace(
        f"{action}: the datastore {store} is full.",
        name=name,
        cause=said(fault),
        remedy="free space, or name another datastore by storage",
    )


def _simple(kind: type[StockyardError], message: str, remedy: str) -> Maker:
    return lambda action, name, fault: kind(
        f"{action}: {message}", name=name, cause=said(fault), remedy=remedy
    )


MAKERS: dict[str, Maker] = {
    "NoPermission": _no_permission,
    "InvalidLogin": _simple(
        ConnectionFailed,
        "vCenter does not know this user and password.",
        "mend username or password",
    ),
    "NotAuthenticated": _simple(
        ConnectionFailed, "vCenter dropped the session again and again.", "run again"
    ),
    "DuplicateName": _simple(
        Conflict, "a machine of this name is in the folder.", "rename or remove it, if it is yours"
    ),
    "ConcurrentAccess": _simple(Conflict, "it was changed meanwhile.", "run again"),
    "TaskInProgress": _simple(Busy, "vCenter is at work on it.", "wait, then run again"),
    "NoDiskSpace": _no_space,
    "InsufficientResourcesFault": _simple(
        HypervisorError,
        "the cluster or pool has not enough left.",
        "free some, widen the pool, or add hosts",
    ),
    "InvalidPowerState": _power,
    "FileNotFound": _simple(
        HypervisorError, "a file of its disk is gone.", "look for it on the datastore"
    ),
    "FileLocked": _simple(
        Busy, "another machine has its disk open.", "end that machine, then run again"
    ),
    "ManagedObjectNotFound": _simple(NotFound, "it is not there any more.", "run again"),
    "MethodNotFound": _not_supported,
    "NotSupported": _not_supported,
    "NotImplemented": _not_supported,
    "NotEnoughLicenses": _not_supported,
    "VersionNotFound": _not_supported,
    "HostNotConnected": _simple(
        HypervisorError, "its ESXi host is not connected.", "reconnect the host in vCenter"
    ),
    "HostCommunication": _simple(
        HypervisorError, "vCenter cannot reach its ESXi host.", "look after it in vCenter"
    ),
    "InaccessibleDatastore": _simple(
        HypervisorError, "the datastore cannot be reached.", "look after it in vCenter"
    ),
}
