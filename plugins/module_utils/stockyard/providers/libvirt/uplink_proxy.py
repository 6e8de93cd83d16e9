# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of HAProxy, which checks the names of a guest's connections to the ports 80 and
443. Pure.

HAProxy decides by the name alone: it resolves the name itself and connects to an address of it,
whatever address the guest used. It never decrypts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...model.destinations import Destination

HTTP, TLS = 80, 443
# The ports of HAProxy in the namespace. The rules redirect connections to them.
LISTENERS = {HTTP: 8080, TLS: 8443}
# A ClientHello with the extension encrypted_client_hello (0xfe0d) of type outer, with any of the
# standard's key derivations and ciphers: its true name cannot be read.
ENCRYPTED_HELLO = "fe0d[0-9a-f]{{4}}00000[1-3]000[1-3]"
_CONFIGURATION = """\
global
    log fd@{{log}} format raw local0
    nbthread 1
    maxconn 2000
    tune.bufsize 36864
defaults
    log global
    option dontlognull
    maxconn 2000
    timeout connect 30s
    timeout client 1h
    timeout server 1h
    timeout client-fin 1m
    timeout http-request 30s
    timeout http-keep-alive 1m
    http-reuse never
resolvers names
    nameserver uplink {address}:53
    resolve_retries 2
    timeout resolve 1s
    timeout retry 5s
    hold valid 5s
    hold nx 0s
    hold refused 0s
    hold other 0s
    hold timeout 0s
frontend tls
    mode tcp
    bind {address}:{tls}
    log-format "tls %[var(sess.name)]"
    tcp-request inspect-delay 15s
    tcp-request content reject if !{{{{ req.ssl_hello_type 1 }}}}
    tcp-request content set-var(sess.name) req.ssl_sni,lower
{tls_names}
    tcp-request content reject if !allowed
    # The whole ClientHello must be in the first record: HAProxy reads no other one.
    tcp-request content set-var(sess.hello) req.payload(6,3),hex,hex2i,add(4)
    tcp-request content set-var(sess.rest) req.payload(3,2),hex,hex2i,sub(sess.hello)
    tcp-request content reject if !{{{{ var(sess.rest) -m int eq 0 }}}}
    tcp-request content reject if {{{{ req.payload_lv(3,2),hex -m reg -i {encrypted_hello} }}}}
    # The connection is allowed. The log does not contain it if its name has no address.
    tcp-request content set-log-level silent
    tcp-request content do-resolve(sess.address,names,ipv4) var(sess.name)
    tcp-request content reject if !{{{{ var(sess.address) -m found }}}}
    tcp-request content set-dst var(sess.address)
    default_backend tls
backend tls
    mode tcp
    server destination 0.0.0.0:{TLS}
frontend http
    mode http
    bind {address}:{http}
    # maxconn does not limit the requests of HTTP/2, and each of them has a buffer.
    option disable-h2-upgrade
    log-format "http %[var(txn.name)]"
    http-request set-var(txn.name) req.hdr(host),host_only,lower
{http_names}
    http-request deny deny_status 403 if !allowed
    http-request deny deny_status 403 if {{{{ method CONNECT }}}} || !{{{{ url_beg / }}}}
    http-request deny deny_status 403 if !{{{{ req.hdr_cnt(host) eq 1 }}}}
    # The converter host_only ignores any text after the last colon, and servers may read that.
    http-request deny if !{{{{ req.fhdr(host) -m reg -i ^[a-z0-9_.-]+(:[0-9]*)?$ }}}}
    # A connection upgraded to HTTP/2 can contain requests with other names.
    http-request del-header Upgrade if {{{{ req.fhdr_cnt(upgrade) gt 1 }}}}
    http-request del-header Upgrade if !{{{{ req.fhdr(upgrade) -i websocket }}}}
    http-request set-log-level silent
    http-request do-resolve(txn.address,names,ipv4) var(txn.name)
    http-request deny deny_status 502 if !{{{{ var(txn.address) -m found }}}}
    http-request set-dst var(txn.address)
    default_backend http
backend http
    mode http
    option http-server-close
    server destination 0.0.0.0:{HTTP}
"""


def configuration(entries: Sequence[Destination], address: str) -> str:
    """Return the configuration, in which ``{{log}}`` stands for a descriptor.

    :param address: the address at which HAProxy listens and the name server answers.
    """
    return _CONFIGURATION.format(
        address=address,
        tls=LISTENERS[TLS],
        http=LISTENERS[HTTP],
        TLS=TLS,
        HTTP=HTTP,
        encrypted_hello=ENCRYPTED_HELLO,
        tls_names=_rules(entries, TLS, "sess"),
        http_names=_rules(entries, HTTP, "txn"),
    )


def _rules(entries: Sequence[Destination], port: int, scope: str) -> str:
    """Return the rules that name the allowed names of a port."""
    names = [entry.name for entry in entries if entry.name and entry.port in (0, port)]
    lines = [
        f"    acl allowed var({scope}.name) -m end {name[1:]}"
        if name.startswith("*.")
        else f"    acl allowed var({scope}.name) -m str {name}"
        for name in names
    ]
    return "\n".join(lines or ["    acl allowed always_false"])
