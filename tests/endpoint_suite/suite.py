# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The integration tests of docker-py: what they are, how they are shared out, and how a file of
them is run against a server.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stockyard.model.template import Hardware
from stockyard.providers.libvirt.machine import choose

from . import recorder

CHECKOUT = Path(__file__).parents[2]
WORK = CHECKOUT / "build" / "endpoint-suite"
# The selection of the published figures.
DESELECTED = (
    "not ConfigAPITest and not LinkTest and not NodesTest and not PluginTest and not ServiceTest "
    "and not SwarmTest and not TestNetworksWithSwarm and not TestStore"
)
TESTS = "tests/integration"
# Seconds until a test without a time-out is stopped, and until its process is killed then.
TEST_SECONDS = 40
PATIENCE = 120.0
# Emulation is about this many times slower than KVM.
EMULATION = 6.0
# Exit codes of pytest: passed, failed, interrupted, no tests.
COMPLETED = (0, 1, 2, 5)


@dataclass(frozen=True)
class Suite:
    """A checkout of docker-py's tests.

    :param python: the interpreter of an environment with docker-py and its pins.
    :param source: the unpacked source distribution.
    :param scale: factor of the tests' time-outs.
    """

    python: Path
    source: Path
    scale: float = 1.0

    def collect(self) -> dict[str, list[str]]:
        """Return the node ids of the selected tests, by file."""
        command = [*self._pytest(), "--collect-only", "-q", TESTS]
        with _version_server() as docker_host:
            process = subprocess.run(
                command,
                cwd=self.source,
                env={**self._environment(), "DOCKER_HOST": docker_host},
                capture_output=True,
                text=True,
                check=False,
            )
        if process.returncode:
            raise RuntimeError(f"pytest cannot collect: {process.stdout}{process.stderr}")
        files: dict[str, list[str]] = {}
        for line in process.stdout.splitlines():
            path, separator, _name = line.partition("::")
            if separator:
                file = str(Path(path).relative_to(TESTS))
                files.setdefault(file, []).append(line)
        return files

    def run(
        self, file: str, tests: Iterable[str], docker_host: str, record: Path, deadline: float
    ) -> bool:
        """Run tests of one file in a process and return whether the process ended properly.

        :param tests: their node ids.
        :param record: the file to which outcomes are appended.
        :param deadline: seconds since the epoch after which no further test starts.
        """
        with tempfile.TemporaryDirectory(prefix="stockyard-") as home:
            # Contexts are in the directory of this file, and without the file in the source.
            configuration = Path(home, ".docker", "config.json")
            configuration.parent.mkdir()
            configuration.write_text("{}", encoding="ascii")
            selected = Path(home, "selected")
            selected.write_text("\n".join(tests), encoding="utf-8")
            environment = {
                **self._environment(),
                "HOME": home,
                "DOCKER_HOST": docker_host,
                recorder.RECORD: str(record),
                recorder.SELECTED: str(selected),
                recorder.DEADLINE: str(deadline),
                recorder.SCALE: str(self.scale),
            }
            options = [f"--timeout={TEST_SECONDS * self.scale:.0f}", "--timeout-method=signal"]
            command = [*self._pytest(), *options, f"{TESTS}/{file}"]
            patience = max(deadline - time.time(), 0) + TEST_SECONDS * self.scale + PATIENCE
            with record.with_suffix(".log").open("ab") as log:
                try:
                    process = subprocess.run(
                        command,
                        cwd=self.source,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        timeout=patience,
                        check=False,
                    )
                except subprocess.TimeoutExpired:
                    return False
        return process.returncode in COMPLETED

    def _pytest(self) -> list[str]:
        # Sockets that docker-py leaves to the garbage collector fail another test, by chance.
        plugins = ("-p", "recorder", "-p", "no:unraisableexception")
        return [str(self.python), "-m", "pytest", *plugins, "-k", DESELECTED]

    def _environment(self) -> dict[str, str]:
        names = ("PATH", "HOME", "LANG", "TMPDIR")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        return {**environment, "PYTHONPATH": str(Path(recorder.__file__).parent)}


def installed() -> Suite:
    """Return the suite in the environment that ``hack/endpoint_suite.sh`` makes."""
    scale = 1.0 if choose(Hardware(), "endpoint-suite").type == "kvm" else EMULATION
    return Suite(WORK / "venv" / "bin" / "python", WORK / "docker-7.0.0", scale)


class _Version(BaseHTTPRequestHandler):
    """Answer of a server that has a version and nothing else."""

    def do_GET(self) -> None:
        """Send the version."""
        body = b'{"ApiVersion": "1.43"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *arguments: object) -> None:
        """Write no log."""


@contextmanager
def _version_server() -> Iterator[str]:
    """Yield the DOCKER_HOST of a server for tests that ask for the version on import."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Version) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def part_of(files: dict[str, list[str]], number: int, count: int) -> list[str]:
    """Return the files of one of several parts, which have about the same number of tests.

    :param number: the part, from 1.
    """
    parts: list[list[str]] = [[] for _part in range(count)]
    sizes = [0] * count
    for file in sorted(files, key=lambda name: (-len(files[name]), name)):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(file)
        sizes[smallest] += len(files[file])
    return sorted(parts[number - 1])
