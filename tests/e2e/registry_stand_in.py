# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry with one image, for Docker in a guest. The program, which runs alone, knows only a
digest of the password: ``python3 registry_stand_in.py DIGEST``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import ssl
import subprocess
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, NAME = 5000, "team/app"
TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image() -> tuple[bytes, dict[str, bytes]]:
    """Return the manifest of an image, and its blobs by their digests."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("pulled")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"fine\n"))
    layer = gzip.compress(file.getvalue(), mtime=0)
    roots = {"type": "layers", "diff_ids": [digest_of(file.getvalue())]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": roots}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": digest_of(layer),
            }
        ],
    }
    blobs = {digest_of(blob): blob for blob in (config, layer)}
    return json.dumps(manifest).encode(), blobs


class Registry(BaseHTTPRequestHandler):
    """The answers to Docker."""

    password_digest = ""
    manifest, blobs = image()
    upload = b""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no log."""

    def _answer(self) -> None:
        body = self._body()
        authorization = self.headers.get("Authorization", "").encode()
        if digest_of(authorization) != self.password_digest:
            self._send(401, b"{}", WWW_Authenticate='Basic realm="team"')
        elif self.command in ("POST", "PATCH"):
            Registry.upload = body
            location, received = f"/v2/{NAME}/blobs/uploads/1", f"0-{len(body) - 1}"
            self._send(202, b"", Location=location, Docker_Upload_UUID="1", Range=received)
        elif self.command == "PUT":
            # Each layer comes in one part.
            content = self.upload if "/uploads/" in self.path else body
            self.blobs[digest_of(content)] = content
            self._send(201, b"", Docker_Content_Digest=digest_of(content))
        else:
            self._read()

    def _read(self) -> None:
        reference = self.path.rpartition("/")[2]
        if self.path == "/v2/":
            self._send(200, b"{}")
        elif f"/v2/{NAME}/manifests/" in self.path and self.command != "HEAD":
            digest = digest_of(self.manifest)
            self._send(200, self.manifest, Content_Type=TYPE, Docker_Content_Digest=digest)
        elif reference in self.blobs:
            self._send(200, self.blobs[reference])
        else:
            self._send(404, b"{}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        fields = {"Docker-Distribution-Api-Version": "registry/2.0"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


# Serves over TLS, to clients without a password: ADDRESS PORT FILE.
TLS_PROGRAM = """
import sys
from tests.e2e import registry_stand_in
registry_stand_in.serve_tls(sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""


def certificate(folder: Path, name: str) -> tuple[Path, str]:
    """Return a file with a new key and its certificate for a name, and the certificate alone."""
    key, path = folder / "registry.pem", folder / "ca.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
    request += ["ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-days", "2"]
    request += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(path)]
    subprocess.run(request, check=True, capture_output=True)
    text = path.read_text()
    key.write_text(key.read_text() + text)
    return key, text


def serve_tls(address: str, port: int, file: str) -> None:
    """Serve until the process ends.

    :param file: the key and its certificate.
    """
    Registry.password_digest = digest_of(b"")
    server = ThreadingHTTPServer((address, port), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    Registry.password_digest = sys.argv[1]
    ThreadingHTTPServer(("127.0.0.1", PORT), Registry).serve_forever()
