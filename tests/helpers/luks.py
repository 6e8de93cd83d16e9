# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key with which the kernel reads an encrypted disk, by the LUKS2 On-Disk Format Specification:
a key slot contains it, encrypted by the key that users have.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SECTOR = 512
JSON_START, SIZE_OFFSET = 4096, 8


def volume_key(header: bytes, passphrase: bytes) -> bytes:
    """Return the volume key of a disk.

    :param header: the first MiB of the disk.
    :raises ValueError: if the passphrase does not open the first key slot.
    """
    (size,) = struct.unpack_from(">Q", header, SIZE_OFFSET)
    metadata = json.loads(header[JSON_START:size].rstrip(b"\0"))
    slot, digest = metadata["keyslots"]["0"], metadata["digests"]["0"]
    area, kdf, length = slot["area"], slot["kdf"], slot["key_size"]
    area_key = _derived(passphrase, kdf, area["key_size"])
    start, size = int(area["offset"]), length * slot["af"]["stripes"]
    stripes = _decrypted(header[start : start + size], area_key)
    key = _merged(stripes, length, slot["af"]["hash"])
    expected = base64.b64decode(digest["digest"])
    if _derived(key, digest, len(expected)) != expected:
        raise ValueError("the passphrase does not open the key slot")
    return key


def _derived(secret: bytes, options: dict[str, str], length: int) -> bytes:
    salt, iterations = base64.b64decode(options["salt"]), int(options["iterations"])
    return hashlib.pbkdf2_hmac(options["hash"], secret, salt, iterations, length)


def _decrypted(data: bytes, key: bytes) -> bytes:
    """Decrypt sectors by aes-xts-plain64."""
    clear = b""
    for number in range(len(data) // SECTOR):
        cipher = Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little")))
        clear += cipher.decryptor().update(data[number * SECTOR :][:SECTOR])
    return clear


def _merged(stripes: bytes, length: int, algorithm: str) -> bytes:
    """Merge the stripes of the anti-forensic splitter."""
    blocks = [stripes[start : start + length] for start in range(0, len(stripes), length)]
    key = bytes(length)
    for block in blocks[:-1]:
        key = _diffused(_xor(key, block), algorithm)
    return _xor(key, blocks[-1])


def _diffused(data: bytes, algorithm: str) -> bytes:
    size = hashlib.new(algorithm).digest_size
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(
        hashlib.new(algorithm, struct.pack(">I", number) + part).digest()[: len(part)]
        for number, part in enumerate(parts)
    )


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=True))
