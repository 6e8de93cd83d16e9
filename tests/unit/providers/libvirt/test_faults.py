# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of libvirt as errors of stockyard."""

from __future__ import annotations

from typing import Any

import pytest

from stockyard.errors import (
    Conflict,
    ConnectionFailed,
    HypervisorError,
    NotFound,
    OutOfSpace,
    StockyardError,
)
from stockyard.providers.libvirt.faults import translated

libvirt: Any = pytest.importorskip("libvirt")


def libvirt_error(code: int, text: str) -> Exception:
    """An error as libvirt-python raises it."""
    error: Any = libvirt.libvirtError(text)
    error.err = (code, libvirt.VIR_FROM_QEMU, text, libvirt.VIR_ERR_ERROR, "", "", "", -1, -1)
    exception: Exception = error
    return exception


NO_DOMAIN, FAILED, SYSTEM, RPC, INTERNAL, INVALID = (
    getattr(libvirt, f"VIR_ERR_{name}")
    for name in (
        "NO_DOMAIN",
        "OPERATION_FAILED",
        "SYSTEM_ERROR",
        "RPC",
        "INTERNAL_ERROR",
        "OPERATION_INVALID",
    )
)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (NO_DOMAIN, "Domain not found: no domain with matching uuid", NotFound),
        (FAILED, "domain 'a.b.c' already exists with uuid 5", Conflict),
        (FAILED, "cannot write: No space left on device", OutOfSpace),
        (SYSTEM, "cannot write data: No space left on device", OutOfSpace),
        (
            SYSTEM,
            "Failed to connect socket to '/run/libvirt': Connection refused",
            ConnectionFailed,
        ),
        (SYSTEM, "Cannot recv data: Connection reset by peer", ConnectionFailed),
        (RPC, "client socket is closed", ConnectionFailed),
        (INTERNAL, "client socket is closed", ConnectionFailed),
        (FAILED, "internal error: qemu unexpectedly closed the monitor", HypervisorError),
        (INVALID, "Requested operation is not valid: domain is already running", HypervisorError),
    ],
)
def test_libvirt_error_becomes_a_stockyard_error(
    code: int, text: str, kind: type[StockyardError]
) -> None:
    with pytest.raises(StockyardError) as caught, translated("start the domain", "host web-1"):
        raise libvirt_error(code, text)
    assert caught.type is kind
    assert caught.value.name == "host web-1"
    assert text in str(caught.value)
    assert isinstance(caught.value.__cause__, libvirt.libvirtError)


def test_other_errors_are_raised_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), translated("divide"):
        raise ZeroDivisionError
