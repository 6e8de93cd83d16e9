# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that carries out a switch-over, from the controller's side.

A process of its own completes or undoes the switch-over if the controller dies. It gets the texts
of :mod:`.switchover` and :mod:`.memory_copy` as arguments, because the SDK may be in an archive
that is deleted together with the controller. It also inherits the lock of the branch, so no other
controller deletes an unfinished branch while this process works.
"""

from __future__ import annotations

import inspect
import json
import select
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, HypervisorError
from . import memory_copy, processes, switchover
from .faults import translated

# Seconds for the process to end after it has been told to give up.
ENDING = 15.0
# The program of the process: a package of the texts that are its arguments, and the start of the
# last one.
PROGRAM = """
import sys, types
package = sys.modules["texts"] = types.ModuleType("texts")
package.__path__ = []
for name, text in zip(sys.argv[1::2], sys.argv[2::2]):
    module = sys.modules[f"texts.{name}"] = types.ModuleType(f"texts.{name}")
    module.__package__ = "texts"
    exec(text, vars(module))
module.main()
"""


def command_line() -> list[str]:
    """Return the program of the process and its arguments."""
    texts = {"memory_copy": memory_copy, "switchover": switchover}
    arguments = [
        word for name, module in texts.items() for word in (name, inspect.getsource(module))
    ]
    return [sys.executable, "-c", PROGRAM, *arguments]


@dataclass(frozen=True)
class Result:
    """The result of a switch-over.

    :param times: its parts in milliseconds; ``pause`` is the time for which the parent was stopped.
    """

    times: dict[str, float]

    @property
    def pause_ms(self) -> float:
        """Return the time for which the parent was stopped, in milliseconds."""
        return self.times["pause"]


class SwitchOverProcess:
    """The process of one switch-over. It waits until :meth:`run`.

    :param uris: URIs that lead to the daemon of the parent, the likeliest first.
    :param lock: descriptor of the branch's lock, which the process holds until it ends.
    """

    def __init__(self, uris: list[str], parent: Any, twin: str, name: str, lock: int) -> None:
        self.uris = uris
        self.parent = parent
        self.twin = twin
        self.name = name
        self._process = subprocess.Popen(
            command_line(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[lock],
            cwd="/",
        )

    def run(
        self,
        snapshot: str,
        blocks: list[tuple[int, str]],
        deadline: Deadline,
        *,
        stop_first: bool,
    ) -> Result:
        """Carry out the switch-over.

        :param snapshot: libvirt's description of the snapshot that gives the parent a new overlay.
        :param blocks: the guest's address of each block of memory, and the file of the twin.
        :param stop_first: whether the parent is stopped before its memory is migrated.
        :raises HypervisorError: if it was undone, with the reason. The parent runs.
        """
        uuid = self.parent.UUIDString()
        order = {
            "uris": self.uris,
            "parent": uuid,
            "pid": processes.running().get(uuid, 0),
            "blocks": blocks,
            "twin": self.twin,
            "snapshot": snapshot,
            "seconds": deadline.left(),
            "stop_first": stop_first,
        }
        # The input stays open: the process knows by it that the controller lives.
        process: Any = self._process
        stdin, stdout = process.stdin, process.stdout
        try:
            stdin.write(json.dumps(order).encode() + b"\n")
            stdin.flush()
            readable, _writable, _errors = select.select([stdout], [], [], deadline.left() + ENDING)
            answer = stdout.readline() if readable else b""
        except BrokenPipeError:
            answer = b""
        finally:
            stderr = self._end()
        if not answer:
            self._recover()
            raise HypervisorError(
                "the process of the switch-over ended early.", name=self.name, cause=stderr
            )
        reply = json.loads(answer)
        if "error" in reply:
            raise HypervisorError(
                "the host could not be branched; it continues to run.",
                name=self.name,
                cause=reply["error"],
                remedy="run again when the host is less busy",
            )
        return Result(reply["times"])

    def close(self) -> None:
        """End the process if it still waits."""
        self._end()

    def _end(self) -> str:
        """Close the input, which makes the process give up, and wait for its end; return its
        errors.
        """
        try:
            _stdout, stderr = self._process.communicate(timeout=ENDING)
        except (ValueError, BrokenPipeError):
            self._process.wait(ENDING)
            return ""
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            self._recover()
            raise DeadlineExceeded(
                f"the process of the switch-over did not end within {ENDING:g} s.", name=self.name
            ) from error
        return stderr.decode(errors="replace").strip()[-500:]

    def _recover(self) -> None:
        """Continue the parent if the process could not do that."""
        with translated("continue the host", self.name):
            switchover.recover(switchover.Machine(self.parent))
