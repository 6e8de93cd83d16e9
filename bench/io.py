# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed of disks and network of a real guest: the first and the second write of a block, in the
overlay and on a volume; and the throughput of the TLS front.

A small program writes the blocks past the guest's cache, so that the image does not need fio.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator

from stockyard import HostInfo, HostSpec, SingleSpec, VolumeUse

from . import floor
from .book import Book, seconds
from .engine import Engine
from .options import Options
from .real import in_guest, opened

PLACES = {"overlay": "/var/tmp", "volume": "/data"}  # noqa: S108  # in the guest
# Program for the guest. Its sequential writes have 1 MiB, its random writes 4 KiB, at offsets from
# a fixed seed.
WRITER = """
import json, mmap, os, random, sys, time
folder, mib, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def timed(path, offsets, size):
    block = mmap.mmap(-1, size)
    block.write(os.urandom(size))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    begin = time.monotonic()
    for offset in offsets:
        os.pwrite(handle, block, offset)
    os.fdatasync(handle)
    took = time.monotonic() - begin
    os.close(handle)
    return took
random.seed(7)
scattered = [4096 * n for n in random.sample(range(mib * 256), count)]
found = {}
for kind, places, size, total in (
    ("sequential", [n << 20 for n in range(mib)], 1 << 20, mib), ("random", scattered, 4096, count)
):
    path = folder + "/bench-" + kind
    for which in ("first", "second"):
        found[which + " " + kind] = total / timed(path, places, size)
    os.unlink(path)
print(json.dumps(found))
"""
PINGS, HANDSHAKES = 50, 10


def measure(book: Book, options: Options) -> None:
    """Measure one host with a volume."""
    mib, count = (256, 2000) if options.full else (64, 500)
    with opened(options.work) as (yard, _template):
        spec = HostSpec(volumes=(VolumeUse("bench-{host}", path=PLACES["volume"], size_gib=2),))
        (host,) = yard.hosts.apply(SingleSpec("sample", floor.TEMPLATE, host=spec)).objects
        try:
            for name, path in PLACES.items():
                with book.attempt(f"writes in the {name}"):
                    _writes(book, host, name, path, mib, count)
            with book.attempt("the TLS front"):
                _front(book, host, 300 if options.full else 60)
        finally:
            yard.teardown(volumes=True)


def _writes(book: Book, host: HostInfo, name: str, path: str, mib: int, count: int) -> None:
    rates = json.loads(in_guest(host, WRITER, path, str(mib), str(count)))
    for kind, value in rates.items():
        book.note(f"{name}: {kind} writes", "MiB/s" if "sequential" in kind else "1/s", value)


def _front(book: Book, host: HostInfo, megabytes: int) -> None:
    """Measure a request over an existing connection, and over a new one; then the load of an image
    of the given size.
    """
    with Engine(host) as engine:
        engine.ping()
        book.note("TLS front: a question", "s", *(engine.ping() for _sample in range(PINGS)))
        book.note(
            "TLS front: a question with its handshake",
            "s",
            *(engine.handshake() for _sample in range(HANDSHAKES)),
        )
        archive = _image(megabytes)
        begin = time.monotonic()
        engine.load(_pieces(archive), len(archive))
        book.note(f"TLS front: load of {megabytes} MB", "s", seconds(begin))
        book.note(
            "TLS front: load",
            "MB/s",
            megabytes / book.figures[f"TLS front: load of {megabytes} MB"].median,
        )


def _image(megabytes: int) -> bytes:
    """Return a file like those of `docker save`: one layer with one file that cannot be
    compressed.
    """
    layer = _tar({"filler": os.urandom(megabytes * 1_000_000)})
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["filler:1"], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
            "layer.tar": layer,
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def _pieces(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
