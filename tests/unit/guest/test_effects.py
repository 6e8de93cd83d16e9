# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new entropy of a fork reaches each generator of the guest, the kernel's first."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest

from stockyard.guest.agent import effects

ENTROPY = bytes(range(64))


class Device(io.BytesIO):
    """A stand-in for /dev/random."""


def test_reseed_reaches_the_kernel_openssl_and_python(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[Any, ...]] = []

    def ioctl(_device: Device, request: int, argument: bytes = b"") -> None:
        steps.append((request, argument))

    def opened(path: str, mode: str, buffering: int = -1) -> Device:
        assert (path, mode, buffering) == ("/dev/random", "wb", 0)
        return Device()

    monkeypatch.setattr(effects, "open", opened, raising=False)
    monkeypatch.setattr("fcntl.ioctl", ioctl)
    monkeypatch.setattr("ssl.RAND_add", lambda data, bits: steps.append(("openssl", len(data))))
    monkeypatch.setattr("random.seed", lambda data: steps.append(("python", len(data))))
    effects.LinuxEffects().reseed(ENTROPY)
    # struct rand_pool_info of random(4): the entropy in bits, the size in bytes, the bytes. Without
    # the second request, the kernel would use its old key for up to a minute.
    assert steps == [
        (0x40085203, struct.pack("ii", 512, 64) + ENTROPY),
        (0x5207, b""),
        ("openssl", 64),
        ("python", 64),
    ]
