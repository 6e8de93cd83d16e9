# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that the suite pulls, made of one static program and pushed to a registry.

They contain what the tests of docker-py use of Alpine and BusyBox: all programs of busybox, a user
postgres, and the directory /var/opt.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIRECTORIES = ("bin", "etc", "root", "tmp", "var", "var/opt", "var/tmp")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "postgres:x:70:70::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\npostgres:x:70:\nnobody:x:65534:\n",
}
WAIT = 30.0


@dataclass(frozen=True)
class Image:
    """An image of the suite.

    :param name: its name at the registry, as Docker Hub has it.
    :param release: content of /etc/release, which makes each image another one.
    :param command: the command of a container without a command.
    """

    name: str
    tag: str
    release: str
    command: tuple[str, ...]


IMAGES = (
    Image("library/alpine", "3.10", "alpine 3.10", ("/bin/sh",)),
    Image("library/alpine", "latest", "alpine", ("/bin/sh",)),
    Image("library/busybox", "latest", "busybox", ("sh",)),
    Image("library/hello-world", "latest", "hello-world", ("echo", "Hello from Docker!")),
)


def publish(registry: str, busybox: Path) -> None:
    """Push all images to a registry.

    :param registry: its URL.
    """
    for image in IMAGES:
        push(registry, image, complete_root(busybox, image.release))


def complete_root(busybox: Path, release: str) -> bytes:
    """Return the tar archive of a root directory with all programs of busybox.

    :param busybox: the static program.
    """
    process = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    applets = tuple(name for name in process.stdout.split() if name != "busybox")
    return root_archive(busybox.read_bytes(), applets, release)


def root_archive(busybox: bytes, applets: tuple[str, ...], release: str) -> bytes:
    """Return the tar archive of an image's root directory; the same for the same input."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for path in DIRECTORIES:
            entry = tarfile.TarInfo(path)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if path.endswith("tmp") else 0o755
            archive.addfile(entry)
        _add_file(archive, "bin/busybox", busybox, 0o755)
        for path, text in {**ACCOUNTS, "etc/release": f"{release}\n"}.items():
            _add_file(archive, path, text.encode(), 0o644)
        for applet in applets:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return output.getvalue()


def push(registry: str, image: Image, archive: bytes) -> None:
    """Push one image of one layer.

    :param archive: the tar archive of its root directory.
    """
    layer = gzip.compress(archive, compresslevel=1, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Env": [SEARCH_PATH], "Cmd": list(image.command)},
        "rootfs": {"type": "layers", "diff_ids": [_digest(archive)]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": image.release}],
    }
    blob = json.dumps(config, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _upload(registry, image.name, CONFIG, blob),
        "layers": [_upload(registry, image.name, LAYER, layer)],
    }
    url = f"{registry}/v2/{image.name}/manifests/{image.tag}"
    _put(url, json.dumps(manifest, sort_keys=True).encode(), MANIFEST)


def _add_file(archive: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _upload(registry: str, name: str, media_type: str, blob: bytes) -> dict[str, Any]:
    """Upload a blob and return its descriptor."""
    begin = Request(f"{registry}/v2/{name}/blobs/uploads/", data=b"", method="POST")  # noqa: S310  # own registry
    with urlopen(begin, timeout=WAIT) as response:  # noqa: S310  # own registry
        location = str(response.headers["Location"])
    separator = "&" if "?" in location else "?"
    _put(f"{location}{separator}digest={_digest(blob)}", blob, "application/octet-stream")
    return {"mediaType": media_type, "size": len(blob), "digest": _digest(blob)}


def _put(url: str, body: bytes, content_type: str) -> None:
    request = Request(url, data=body, method="PUT", headers={"Content-Type": content_type})  # noqa: S310  # own registry
    with urlopen(request, timeout=WAIT):  # noqa: S310  # own registry
        pass


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
