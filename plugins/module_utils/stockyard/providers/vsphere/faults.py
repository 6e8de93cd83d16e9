# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vSphere's faults as ours: the one boundary. Each error names the object, the cause and the
remedy.
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

# What a broken line looks like from here; an answer that was cut short is not XML.
LOST = (OSError, HTTPException, ExpatError)
Maker = Callable[[str, str, Any], StockyardError]


@contextmanager
def translated(what: str, name: str = "") -> Iterator[None]:
    """Turn a vSphere fault or a lost connection inside the block into an error of ours.

    :param what: what was being done, as in "clone the machine".
    """
    try:
        yield
    except api.vmodl().MethodFault as fault:
        raise of_fault(what, name, fault) from fault
    except LOST as error:
        raise lost(what, name, error) from error


def lost(what: str, name: str, error: BaseException) -> ConnectionFailed:
    """The line to vCenter is down, or was never up."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            "vCenter's certificate is not believed.",
            name=name,
            cause=error.verify_message or str(error),
            remedy="give ca_path, the CA that signed it (vCenter offers its own at "
            "/certs/download.zip), or mend it",
        )
    return ConnectionFailed(
        f"{what}: the connection to vCenter failed.",
        name=name,
        cause=f"{type(error).__name__}: {error}",
        remedy="look whether vCenter is up, and run again: what was begun is found and gone on "
        "with",
    )


def kinds(fault: Any) -> list[str]:
    """The names of a fault's type and of those above it, nearest first, without their package."""
    return [kind.__name__.rpartition(".")[2] for kind in type(fault).__mro__]


def is_a(fault: Any, *names: str) -> bool:
    """Whether a fault is of one of these types."""
    return any(kind in names for kind in kinds(fault))


def of_fault(what: str, name: str, fault: Any) -> StockyardError:
    """The error that a fault is, by the nearest of its types that says something."""
    for kind in kinds(fault):
        if kind in MAKERS:
            return MAKERS[kind](what, name, fault)
    remedy = "look at the task in vCenter, mend what it names, and run again"
    return HypervisorError(f"{what} failed.", name=name, cause=said(fault), remedy=remedy)


def said(fault: Any) -> str:
    """What a fault says: its type, its message, and the messages that vCenter sent along."""
    texts = [str(getattr(fault, "msg", "") or "")]
    texts += [
        str(m.message)
        for m in getattr(fault, "faultMessage", None) or []
        if getattr(m, "message", "")
    ]
    reason = getattr(fault, "reason", None)
    texts += [str(reason)] if reason else []
    told = "; ".join(dict.fromkeys(t for t in texts if t))
    return f"{kinds(fault)[0]}: {told}"[:500] if told else kinds(fault)[0]


def _no_permission(what: str, name: str, fault: Any) -> StockyardError:
    privilege, ref = (
        getattr(fault, "privilegeId", "") or "a privilege",
        getattr(fault, "object", None),
    )
    where = f" on {type(ref).__name__.rpartition('.')[2]} {ref._moId}" if ref is not None else ""
    return HypervisorError(
        f"{what}: the privilege {privilege} is missing{where}.",
        name=name,
        cause=said(fault),
        remedy="give the user's role that privilege; a look at the hypervisor's problems names all "
        "that are missing",
    )


def _not_supported(what: str, name: str, fault: Any) -> StockyardError:
    remedy = "use a vCenter that can, or another fork_mode"
    return Unsupported(
        f"{what}: this vCenter cannot do it.", name=name, cause=said(fault), remedy=remedy
    )


def _power(what: str, name: str, fault: Any) -> StockyardError:
    state = getattr(fault, "existingState", "")
    return Conflict(
        f"{what}: its machine is {state or 'in another state'}.",
        name=name,
        cause=said(fault),
        remedy="run again",
    )


def _no_space(what: str, name: str, fault: Any) -> StockyardError:
    store = getattr(fault, "datastore", "") or "of its disks"
    return OutOfSpace(
        f"{what}: the datastore {store} is full.",
        name=name,
        cause=said(fault),
        remedy="free space, or name another datastore by storage",
    )


def _simple(kind: type[StockyardError], message: str, remedy: str) -> Maker:
    return lambda what, name, fault: kind(
        f"{what}: {message}", name=name, cause=said(fault), remedy=remedy
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
