# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of the key of a volume on its way from a controller to an agent.

Channels keep what passes through them: a virtio port in its buffers, vCenter in its events and in
the files of the machine. So the key is encrypted for a key pair of the agent's worker, which ends
after the request. Pure.
"""

from __future__ import annotations

import base64
import os

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:  # guests always have it; a controller may read only this file's text
    pass

KEY_BYTES = 32
PURPOSE = b"stockyard volume key"
# Each pair of key pairs encrypts one message.
NONCE = bytes(12)


class KeyExchange:
    """A key pair for one key."""

    def __init__(self) -> None:
        # Directly from the kernel: forks have the same generator in their processes.
        self._private = _new_private_key()

    @property
    def public_key(self) -> str:
        """Return the public half, in base64."""
        return base64.b64encode(_raw(self._private)).decode()

    def unwrap(self, wrapped: str) -> str:
        """Return the key that a controller wrapped for this key pair.

        :raises ValueError: if it is not wrapped for this key pair.
        """
        data = base64.b64decode(wrapped, validate=True)
        public, encrypted = data[:KEY_BYTES], data[KEY_BYTES:]
        try:
            return _cipher(self._private, public, public).decrypt(NONCE, encrypted, None).decode()
        except InvalidTag:
            raise ValueError("the key is not wrapped for this agent") from None


def wrap(key: str, public_key: str) -> str:
    """Return a key that only the agent with a key pair can read.

    :param public_key: public half of the key pair, in base64.
    :raises ValueError: if the public half is malformed.
    """
    private = _new_private_key()
    public = _raw(private)
    cipher = _cipher(private, base64.b64decode(public_key, validate=True), public)
    return base64.b64encode(public + cipher.encrypt(NONCE, key.encode(), None)).decode()


def _new_private_key() -> x25519.X25519PrivateKey:
    return x25519.X25519PrivateKey.from_private_bytes(os.urandom(KEY_BYTES))


def _raw(private: x25519.X25519PrivateKey) -> bytes:
    """Return the public half of a key pair."""
    return private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )


def _cipher(private: x25519.X25519PrivateKey, peer: bytes, sender: bytes) -> ChaCha20Poly1305:
    """Return the cipher that both sides derive.

    :param peer: public half of the other side.
    :param sender: public half of the controller.
    """
    shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
    derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=sender, info=PURPOSE)
    return ChaCha20Poly1305(derivation.derive(shared))
