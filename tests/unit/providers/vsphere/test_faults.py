# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vSphere's faults as errors that name object, cause and remedy."""

from __future__ import annotations

import socket
import ssl
from http.client import RemoteDisconnected
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from stockyard import (
    Busy,
    Conflict,
    ConnectionFailed,
    HypervisorError,
    NotFound,
    OutOfSpace,
    StockyardError,
    Unsupported,
)
from stockyard.providers.vsphere.faults import translated
from stockyard.providers.vsphere.fork import was_lost, was_perhaps_made

FAULTS: list[tuple[Any, type[StockyardError], str]] = [
    (vim.fault.InvalidLogin(), ConnectionFailed, "password"),
    (vim.fault.NotAuthenticated(), ConnectionFailed, "session"),
    (
        vim.fault.NoPermission(privilegeId="VirtualMachine.Inventory.Create"),
        HypervisorError,
        "Inventory.Create",
    ),
    (vim.fault.DuplicateName(name="x"), Conflict, "of this name"),
    (vim.fault.NoDiskSpace(datastore="LocalDS_0"), OutOfSpace, "LocalDS_0"),
    (
        vim.fault.InsufficientMemoryResourcesFault(unreserved=1, requested=2),
        HypervisorError,
        "insufficient",
    ),
    (vim.fault.InvalidPowerState(existingState="poweredOff"), Conflict, "poweredOff"),
    (vim.fault.ConcurrentAccess(), Conflict, "changed"),
    (vim.fault.TaskInProgress(), Busy, "working on"),
    (vmodl.fault.HostNotConnected(), HypervisorError, "not connected"),
    (vmodl.fault.ManagedObjectNotFound(), NotFound, "the object no longer exists"),
    (vmodl.fault.MethodNotFound(), Unsupported, ": this vCenter does not support it"),
    (vmodl.fault.NotSupported(), Unsupported, ": this vCenter does not support it"),
    (vmodl.fault.SystemError(reason="deep"), HypervisorError, "deep"),
    (vim.fault.GenericVmConfigFault(reason="odd"), HypervisorError, "odd"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "word"), FAULTS, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_fault_becomes_a_stockyard_error(
    fault: Any, kind: type[StockyardError], word: str
) -> None:
    with pytest.raises(StockyardError) as caught, translated("fork the template", "host one"):
        raise fault
    error = caught.value
    assert error.__class__ is kind
    assert word in str(error)
    assert error.name == "host one"
    assert error.cause
    assert error.remedy
    assert error.__cause__ is fault


@pytest.mark.parametrize(
    "broken",
    [
        ConnectionResetError("reset"),
        RemoteDisconnected("end"),
        socket.gaierror("name"),
        TimeoutError("slow"),
    ],
)
def test_a_broken_line_is_a_failed_connection(broken: Exception) -> None:
    with pytest.raises(ConnectionFailed, match="run again") as caught, translated("read", "x"):
        raise broken
    assert was_lost(caught.value)
    assert was_perhaps_made(caught.value)


def test_untrusted_certificate_is_reported() -> None:
    refused = ssl.SSLCertVerificationError(1, "verify failed")
    refused.verify_message = "certificate has expired"
    with pytest.raises(ConnectionFailed, match="expired"), translated("open", "vc"):
        raise refused


def test_only_a_taken_name_and_a_broken_line_leave_doubt() -> None:
    for fault, doubt in (
        (vim.fault.DuplicateName(name="x"), True),
        (vim.fault.NoDiskSpace(), False),
    ):
        with pytest.raises(StockyardError) as caught, translated("fork", "x"):
            raise fault
        assert was_perhaps_made(caught.value) is doubt
