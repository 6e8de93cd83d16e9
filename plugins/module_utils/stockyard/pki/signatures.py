# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of a tenant, by a key that follows from the key of its authority: each controller of
the tenant has it, and no file contains it.
"""

from __future__ import annotations

from .authority import Authority

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:  # Pki reports it before anything here is called
    pass

# Separate this key, and each purpose of it, from all others.
KEYS = b"stockyard template signatures 1"
TEMPLATE = b"stockyard template artifact 1\n"


def sign(authority: Authority, data: bytes) -> bytes:
    """Return the signature of the configuration of an artifact."""
    return _key(authority).sign(TEMPLATE + data)


def public_key(authority: Authority) -> str:
    """Return the public key of a tenant's signatures, in hex."""
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _key(authority).public_key().public_bytes(*raw).hex()


def is_signed(key: str, data: bytes, signature: bytes) -> bool:
    """Return whether a signature is that of the owner of a public key."""
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(signature, TEMPLATE + data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _key(authority: Authority) -> ed25519.Ed25519PrivateKey:
    numbers = authority.key.private_numbers()
    secret = numbers.private_value.to_bytes((authority.key.curve.key_size + 7) // 8, "big")
    seed = HKDF(hashes.SHA256(), 32, KEYS, b"").derive(secret)
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
