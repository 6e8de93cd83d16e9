# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the result of every task, as callbacks get to see it, to the file RECORD: one JSON object
a line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """Write results for the tests next to this directory."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, failed=True)

    def _write(self, result: Any, failed: bool) -> None:
        # Callbacks are told by their name whether a task failed: newer versions keep it out of the
        # result.
        entry = {**result._result, "failed": failed}
        line = json.dumps({"task": result._task.get_name(), "result": entry}, default=str)
        with Path(os.environ["RECORD"]).open("a") as file:
            file.write(f"{line}\n")
