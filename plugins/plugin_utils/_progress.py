# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugins that run a module and show the lines of its progress file at the same time."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.stockyard.escaping import one_line

PERIOD = 0.1
PLUGINS = Path(__file__).absolute().parents[1]
RUNNER = "stockyard.container_hosts.run_here"


class ProgressAction(ActionBase):
    """Action plugin that runs the module of the same name.

    Lines are shown on standard error, so that the output of callbacks on standard output does not
    change. If the progress file cannot be read (another machine, another user, a task in the
    background), only the result contains the lines.
    """

    _supports_check_mode = True
    _supports_async = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module and return its result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        background = bool(self._task.async_val) and not self._connection.has_native_async
        with (
            self._arguments(background, task_vars or {}) as arguments,
            self._module(background) as module,
        ):
            result.update(
                self._execute_module(
                    module_name=module,
                    module_args=arguments,
                    task_vars=task_vars,
                    wrap_async=background,
                )
            )
        if not background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    @property
    def _local(self) -> bool:
        """Return whether the module runs on this machine as this user."""
        return self._connection.transport == "local" and not self._connection.become

    @contextmanager
    def _module(self, background: bool) -> Iterator[str]:
        """Yield the name of the module to execute.

        On this machine that is a runner, which does not need to be packed for each task.
        """
        if background or not self._local:
            yield self._task.action
            return
        before = self._task.environment
        runner_options = {
            "STOCKYARD_RUN_MODULE": self._task.action.rpartition(".")[2],
            "STOCKYARD_RUN_PLUGINS": str(PLUGINS),
        }
        self._task.environment = [*(before or []), runner_options]
        try:
            yield RUNNER
        finally:
            self._task.environment = before

    def _update_module_args(self, module_name: str, *arguments: Any, **keywords: Any) -> None:
        """Use the name of the requested module in errors, also if the runner is executed."""
        super()._update_module_args(
            self._task.action if module_name == RUNNER else module_name, *arguments, **keywords
        )

    @contextmanager
    def _arguments(self, background: bool, task_vars: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the module's arguments, with a progress file if it can be read from here."""
        arguments = dict(self._task.args)
        if not self._local or background or self._task.no_log or self._task.check_mode:
            yield arguments
            return
        folder = Path(tempfile.mkdtemp(prefix="progress-", dir=constants.DEFAULT_LOCAL_TMP))
        try:
            path = str(arguments.get("progress_file") or folder / "lines")
            arguments["progress_file"] = path
            # The module expands the path in the same way.
            file = Path(os.path.expanduser(os.path.expandvars(path)))
            with followed(file, _teller(task_vars.get("inventory_hostname", ""))):
                yield arguments
        finally:
            shutil.rmtree(folder)


def _teller(host: str) -> Callable[[str], None]:
    # In a worker process, Display passes its lines to the main process, so that threads can use it.
    display = Display()
    return lambda line: display.display(one_line(f"[{host}] {line}"), stderr=True)


@contextmanager
def followed(path: Path, show: Callable[[str], None]) -> Iterator[None]:
    """Show each complete line that is appended to a file inside the ``with`` block.

    The file does not need to exist yet.
    """
    finished = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, _size(path), show, finished), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _follow(path: Path, start: int, show: Callable[[str], None], finished: threading.Event) -> None:
    partial, last = b"", False
    while not last:
        last = finished.wait(PERIOD)
        new = _read(path, start)
        start += len(new)
        *lines, partial = (partial + new).split(b"\n")
        for line in lines:
            show(line.decode(errors="replace"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path, start: int) -> bytes:
    """Return the content of a file from an offset, or nothing if it cannot be read.

    If a missing file is an error, the module reports it.
    """
    try:
        with path.open("rb") as handle:
            handle.seek(start)
            return handle.read()
    except OSError:
        return b""
