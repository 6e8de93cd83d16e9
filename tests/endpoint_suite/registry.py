# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's registry of images as a program of this user, on the loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

WAIT = 30.0


@contextmanager
def serving(program: Path, work: Path) -> Iterator[int]:
    """Run a registry and yield its port on 127.0.0.1.

    :param program: Debian's docker-registry.
    :param work: directory of its configuration, images and log.
    """
    port = free_port()
    configuration = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(work / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    # JSON is YAML.
    path = work / "registry.yml"
    path.write_text(json.dumps(configuration), encoding="ascii")
    with (work / "registry.log").open("ab") as log:
        process = subprocess.Popen([program, "serve", path], stdout=log, stderr=log)
    try:
        _wait(process, port, work)
        yield port
    finally:
        process.terminate()
        process.wait(WAIT)


def free_port() -> int:
    """Return a port on which no program listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, work: Path) -> None:
    end = time.monotonic() + WAIT
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=WAIT):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(
                    f"the registry does not answer, see {work}/registry.log"
                ) from None
            time.sleep(0.1)
