# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret of a host, a CA or a user is anywhere in a template: not in memory, not on disk, not in
freed blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from stockyard import HostInfo, TemplateInfo, Yard

from .conftest import WORK, ssh

pytestmark = pytest.mark.real
STEP = 64 << 20
OVERLAP = 4096
PRIVATE = re.compile(
    rb"-----BEGIN ([A-Z]* ?)PRIVATE KEY-----\n[A-Za-z0-9+/\n=]{60,}-----END \\1PRIVATE KEY-----\n"
)


def pieces(path: Path) -> Iterator[bytes]:
    """Read the data of a file, without holes, in overlapping pieces."""
    with path.open("rb") as handle:
        end, at = os.fstat(handle.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(handle.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(handle.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                handle.seek(max(0, at - OVERLAP))
                yield handle.read(min(hole, at + STEP) - handle.tell())
                at += STEP
            at = hole


def forms(pem: bytes) -> dict[str, bytes]:
    """A private key as it may lie in memory: the number itself, and a line of its file that has a
    part of it.
    """
    lines = pem.splitlines()[1:-1]
    # OpenSSH's first three lines are the same for all keys of a kind, or public.
    return {"number": number(pem), "text": lines[len(lines) * 3 // 5][:40]}


def number(pem: bytes) -> bytes:
    load = (
        serialization.load_ssh_private_key
        if b"OPENSSH" in pem
        else serialization.load_pem_private_key
    )
    key = load(pem, None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes(32, "big")
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    return key.private_bytes_raw()


@pytest.fixture(scope="module")
def secrets(yard: Yard, fleet: list[HostInfo]) -> dict[str, bytes]:
    """Every private key there is: two hosts', the CA's, the operator's."""
    needles: dict[str, bytes] = {}
    for host in fleet[:2]:
        for path in ("/etc/ssh/ssh_host_ed25519_key", "/var/lib/stockyard/tls/key.pem"):
            needles[f"{host.name}:{path}"] = ssh(host, "sudo", "cat", path).stdout.encode()
    folder = WORK / "pki" / yard.context.owner / "default"
    for name in ("ca-key.pem", "client/key.pem", "ssh/id_ed25519"):
        needles[str(folder / name)] = (folder / name).read_bytes()
    return {
        f"{name} ({form})": value
        for name, pem in needles.items()
        for form, value in forms(pem).items()
    }


@pytest.fixture(scope="module")
def files(template: TemplateInfo) -> list[Path]:
    """All that a fork gets of its template."""
    folder = Path(template.storage) / "templates" / template.uuid
    image = Path(template.storage) / "images"
    return [
        folder / "ram",
        folder / "state",
        folder / "disk.qcow2",
        *image.glob(f"{template.image}*/disk*"),
    ]


def holders(secrets: dict[str, bytes], files: list[Path]) -> set[tuple[str, str]]:
    """Which secret is in which file."""
    return {
        (name, path.name)
        for path in files
        for piece in pieces(path)
        for name, value in secrets.items()
        if value in piece
    }


def test_no_secret_is_in_the_template(secrets: dict[str, bytes], files: list[Path]) -> None:
    assert len(files) == 4
    assert holders(secrets, files) == set()


def test_search_finds_a_planted_secret(
    secrets: dict[str, bytes], template: TemplateInfo, fleet: list[HostInfo], files: list[Path]
) -> None:
    """So the test above does not pass by looking past it: a host's keys are on that host's own
    disk.
    """
    disk = Path(template.storage) / "hosts" / fleet[0].uuid / "disk.qcow2"
    own = {
        name for name in secrets if name.startswith(fleet[0].name + ":") and name.endswith("(text)")
    }
    assert {name for name, _file in holders(secrets, [disk])} >= own
    assert holders({"the agent's name": b"stockyard_agent"}, files[:1])


def test_only_private_keys_of_the_rehearsal_are_in_the_template(files: list[Path]) -> None:
    """At most its two keys, in memory or in freed blocks; docs/identity.md lists them."""
    matches = {
        match.group()
        for path in files
        for piece in pieces(path)
        for match in PRIVATE.finditer(piece)
    }
    keys = set()
    for pem in matches:
        with suppress(ValueError):  # a part of one, overwritten since
            keys.add(number(pem))
    assert len(keys) <= 2
