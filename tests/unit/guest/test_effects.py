# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new entropy of a fork reaches each generator of the guest, the kernel's first."""

from __future__ import annotations

import errno
import io
import os
import signal
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


class ControlFile(io.StringIO):
    """A file of a control group that gives an error when it is used."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.error = OSError(code, os.strerror(code))

    def read(self, _size: int | None = -1) -> str:
        raise self.error

    def write(self, _text: str) -> int:
        raise self.error


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENOENT])
def test_control_group_can_be_removed_at_any_time(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """systemd removes the group of the front when it starts the front again. The kernel answers
    ENODEV to a reader and a writer that opened their file before.
    """
    guest = effects.LinuxEffects()
    monkeypatch.setattr(effects, "open", lambda *_a, **_k: ControlFile(code), raising=False)
    monkeypatch.setattr(effects, "START_PAUSES", (0.0, 0.0))
    guest._prioritize_front("front")
    guest.prioritize(True)
    guest._signal_front("front", signal.SIGHUP)
    effects._kill(effects.FRONT_KILL.format("front"))


def test_other_error_of_a_control_group_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "open", lambda *_a, **_k: ControlFile(errno.EIO), raising=False)
    with pytest.raises(OSError, match="Input/output error"):
        effects._kill("cgroup.kill")
