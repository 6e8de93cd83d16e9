# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The side of an endpoint that clients reach by mutual TLS, with the authority of the tenant."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..guest.security.reader.streams import LIMIT, Peer, Stream
from ..resources.context import Context
from .server import BACKLOG, Endpoint
from .tls import TlsProtocol

# Seconds after which a new connection gets a new certificate and the newest list of revocations.
FRESH = 30.0


class ServerTls:
    """The TLS settings of an endpoint, made again from the keys of the tenant while it serves.

    :param name: the name of the endpoint in its certificate.
    :param address: the IP address that clients connect to.
    """

    def __init__(self, ctx: Context, tenant: str, name: str, address: str) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.name = name
        self.address = address
        self._context: ssl.SSLContext | None = None
        self._made = 0.0

    def context(self) -> ssl.SSLContext:
        """Return the settings for a new connection."""
        clock = self.ctx.clock
        if self._context is None or clock.monotonic() - self._made > FRESH:
            self._context, self._made = self._make(), clock.monotonic()
        return self._context

    def _make(self) -> ssl.SSLContext:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        pki, today = self.ctx.pki(self.tenant), self.ctx.today()
        private_key = ec.generate_private_key(ec.SECP256R1())
        authority = pki.authority(today)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        text = request.sign(private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        certificate = authority.sign_server(text.decode(), self.name, self.address, today)
        key = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=authority.pem())
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        # OpenSSL reads these from files only; the directory is readable by this user alone.
        with tempfile.TemporaryDirectory() as folder:
            pair, revoked = Path(folder) / "pair.pem", Path(folder) / "crl.pem"
            pair.write_bytes(certificate.pem.encode() + key)
            revoked.write_text(pki.crl(today), encoding="ascii")
            context.load_cert_chain(pair)
            context.load_verify_locations(revoked)
        return context


async def listen_tls(
    endpoint: Endpoint, address: str, port: int, context: Callable[[], ssl.SSLContext]
) -> asyncio.Server:
    """Serve an endpoint at an address of this machine.

    :param context: returns the TLS settings for a new connection.
    """
    loop = asyncio.get_running_loop()

    def accept() -> TlsProtocol:
        reader = Stream(LIMIT, loop)
        user = asyncio.StreamReaderProtocol(
            reader, lambda _reader, writer: endpoint.serve(Peer(reader, writer)), loop=loop
        )
        return TlsProtocol(user, context())

    return await loop.create_server(accept, address, port, backlog=BACKLOG)
