# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries: which options are secret, and who sees what is given in them while something runs."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from types import TracebackType

import yaml

CHECKOUT = Path(__file__).parents[2]
_OPTION = re.compile(r'"(\w+)": \{[^{}]*"no_log": True')
PERIOD = 0.1


def secret_options() -> set[str]:
    """Every option of a module or role that its specification calls a secret."""
    sources = [p.read_text() for p in (CHECKOUT / "plugins").rglob("*.py")]
    options = {name for text in sources for name in _OPTION.findall(text)}
    for path in (CHECKOUT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            options |= {name for name, option in entry["options"].items() if option.get("no_log")}
    return options


class Watch:
    """Reads every command line and environment of this machine's processes, again and again, for
    canaries.
    """

    def __init__(self, canaries: list[str]) -> None:
        self.canaries = [canary.encode() for canary in canaries]
        self.seen: set[str] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(PERIOD):
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._look(entry)

    def _look(self, process: Path) -> None:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                text = (process / name).read_bytes()
                if any(canary in text for canary in self.canaries):
                    self.seen.add(f"{name}: {text[:200]!r}")


def holders(root: Path, canaries: list[str], *besides: str) -> list[Path]:
    """Files under a directory that hold one."""
    files = [
        p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.name not in besides
    ]
    return [p for p in files if any(canary.encode() in p.read_bytes() for canary in canaries)]
