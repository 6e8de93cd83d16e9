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
            "vCenter's certificate is not trusted.",
            name=name,
            cause=error.verify_message or str(error),
            remedy="set ca_path to the CA that signed it (vCenter offers its CA at "
            "/certs/download.zip), or correct the certificate",
        )
    return ConnectionFailed(
        f"cannot {action}: the connection to vCenter failed.",
        name=name,
        cause=f"{type(error).__name__}: {error}",
        remedy="check that vCenter runs, and run again: the next run continues",
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
    remedy = "inspect the task in vCenter, correct its cause, and run again"
    return HypervisorError(f"cannot {action}.", name=name, cause=fault_text(fault), remedy=remedy)


def fault_text(fault: Any) -> str:
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
        f"cannot {action}: the privilege {privilege} is missing{location}.",
        name=name,
        cause=fault_text(fault),
        remedy="grant the privilege to the user's role; hypervisor_info lists all missing "
        "privileges as problems",
    )


def _not_supported(action: str, name: str, fault: Any) -> StockyardError:
    remedy = "use a vCenter that supports it, or another fork_mode"
    return Unsupported(
        f"cannot {action}: this vCenter does not support it.",
        name=name,
        cause=fault_text(fault),
        remedy=remedy,
    )


def _power(action: str, name: str, fault: Any) -> StockyardError:
    state = getattr(fault, "existingState", "")
    return Conflict(
        f"cannot {action}: the machine is {state or 'in another state'}.",
        name=name,
        cause=fault_text(fault),
        remedy="run again",
    )


def _no_space(action: str, name: str, fault: Any) -> StockyardError:
    store = getattr(fault, "datastore", "") or "of its disks"
    return OutOfSpace(
        f"cannot {action}: the datastore {store} is full.",
        name=name,
        cause=fault_text(fault),
        remedy="free space, or set storage to another datastore",
    )


def _simple(kind: type[StockyardError], message: str, remedy: str) -> Maker:
    return lambda action, name, fault: kind(
        f"cannot {action}: {message}",
        name=name,
        cause=fault_text(fault),
        remedy=remedy,
    )


MAKERS: dict[str, Maker] = {
    "NoPermission": _no_permission,
    "InvalidLogin": _simple(
        ConnectionFailed,
        "vCenter refuses this user and password.",
        "correct username or password",
    ),
    "NotAuthenticated": _simple(
        ConnectionFailed, "vCenter ended the session repeatedly.", "run again"
    ),
    "DuplicateName": _simple(
        Conflict,
        "the folder already has a machine of this name.",
        "rename or delete that machine, if it is yours",
    ),
    "ConcurrentAccess": _simple(
        Conflict, "the machine was changed by another user or controller.", "run again"
    ),
    "TaskInProgress": _simple(Busy, "vCenter is working on the machine.", "wait, then run again"),
    "NoDiskSpace": _no_space,
    "InsufficientResourcesFault": _simple(
        HypervisorError,
        "the cluster or pool has insufficient resources.",
        "free resources, raise the limits of the pool, or add ESXi hosts",
    ),
    "InvalidPowerState": _power,
    "FileNotFound": _simple(
        HypervisorError, "a file of the disk is missing.", "check the datastore"
    ),
    "FileLocked": _simple(
        Busy, "another machine has its disk open.", "stop that machine, then run again"
    ),
    "ManagedObjectNotFound": _simple(NotFound, "the object no longer exists.", "run again"),
    "MethodNotFound": _not_supported,
    "NotSupported": _not_supported,
    "NotImplemented": _not_supported,
    "NotEnoughLicenses": _not_supported,
    "VersionNotFound": _not_supported,
    "HostNotConnected": _simple(
        HypervisorError,
        "the machine's ESXi host is not connected.",
        "reconnect the host in vCenter",
    ),
    "HostCommunication": _simple(
        HypervisorError, "vCenter cannot reach the machine's ESXi host.", "check it in vCenter"
    ),
    "InaccessibleDatastore": _simple(
        HypervisorError, "the datastore cannot be reached.", "check it in vCenter"
    ),
}
