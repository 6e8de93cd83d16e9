# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS front of a host, as stunnel makes it of the files on the host's disk: who is let in, by
real handshakes.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def admits(disk: Path, client: Path) -> bool:
    """Whether a host lets a client in, and the client trusts the host.

    stunnel's ``CRLfile`` makes OpenSSL look at a list of every authority, as
    ``VERIFY_CRL_CHECK_CHAIN`` does.

    :param disk: the root of the host's disk.
    :param client: a directory with ca.pem, cert.pem and key.pem.
    """
    front, caller = _front(disk / "var/lib/stockyard/tls"), _caller(client)
    to_front, to_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = front.wrap_bio(to_front, to_caller, server_side=True)
    docker = caller.wrap_bio(to_caller, to_front, server_hostname=None)
    try:
        for _turn in range(10):
            for side in (docker, server):
                try:
                    side.do_handshake()
                    side.write(b"ping")
                    side.read(4)
                except ssl.SSLWantReadError:
                    pass
    except ssl.SSLError:
        return False
    return True


def _front(tls: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    context.load_verify_locations(tls / "ca.pem")
    context.load_verify_locations(tls / "crl.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    return context


def _caller(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
