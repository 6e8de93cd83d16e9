# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository of Debian packages on the hypervisor's loopback, signed with a key of its own."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from email.utils import formatdate
from functools import partial
from pathlib import Path

from stockyard import Repository

CONTROL = """Package: {name}
Version: {version}
Architecture: all
Maintainer: tests <tests@localhost>
Description: shows where packages come from
"""


class LocalRepository:
    """A directory of packages, and the server that shows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "packages"
        self.home = folder / "gnupg"
        self.folder.mkdir(parents=True)
        self.home.mkdir(mode=0o700)
        self._gpg("--quick-gen-key", "tests@localhost", "ed25519", "sign", "never")
        handler = partial(_Quiet, directory=str(self.folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Serve no more, and end the agent that keeps the key."""
        self.server.shutdown()
        self.server.server_close()
        subprocess.run(
            ["gpgconf", "--homedir", self.home, "--kill", "all"], check=False, capture_output=True
        )

    @property
    def declared(self) -> Repository:
        """It, as a template names it."""
        key = self._gpg("--armor", "--export")
        return Repository(f"http://127.0.0.1:{self.server.server_port}/", key, "./", ())

    def publish(self, name: str, version: str, files: dict[str, str]) -> None:
        """Add a version of a package with these files in it."""
        tree = self.folder.parent / f"{name}-{version}"
        for path, text in {
            "DEBIAN/control": CONTROL.format(name=name, version=version),
            **files,
        }.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        package = self.folder / f"{name}_{version}_all.deb"
        line = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
        subprocess.run(line, check=True, capture_output=True)
        self._index()

    def add(self, package: Path) -> None:
        """Add a package."""
        shutil.copy(package, self.folder)
        self._index()

    def _index(self) -> None:
        entries = []
        for package in sorted(self.folder.glob("*.deb")):
            control = subprocess.run(
                ["dpkg-deb", "--field", package], check=True, capture_output=True, text=True
            ).stdout
            data = package.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            facts = f"Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n"
            entries.append(control.rstrip("\n") + "\n" + facts)
        index = "\n".join(entries).encode()
        parts = {"Packages": index, "Packages.gz": gzip.compress(index)}
        sums = []
        for name, data in parts.items():
            (self.folder / name).write_bytes(data)
            sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n")
        release = f"Origin: tests\nDate: {formatdate(usegmt=True)}\nSHA256:\n{''.join(sums)}"
        (self.folder / "InRelease").write_text(self._gpg("--clearsign", stdin=release))

    def _gpg(self, *arguments: str, stdin: str = "") -> str:
        line = ["gpg", "--homedir", str(self.home), "--batch", "--quiet"]
        line += ["--pinentry-mode", "loopback", "--passphrase", ""]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        result = subprocess.run(
            [*line, *arguments],
            input=stdin,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return result.stdout


class _Quiet(http.server.SimpleHTTPRequestHandler):
    # as the base class names it
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
