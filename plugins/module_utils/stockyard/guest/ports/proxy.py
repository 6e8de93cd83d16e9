# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that dockerd starts in place of docker-proxy for each published port.

It asks the relay for a forward, and becomes docker-proxy as soon as the forward stands: dockerd
waits for docker-proxy before it starts the container.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from .publications import PROXY, SOCKET, forwarded_port

# dockerd reads the result of docker-proxy from this descriptor, and waits for 16 seconds.
RESULT = 3
PATIENCE, PAUSE = 12.0, 0.1
ABSENT = (
    "the hypervisor does not forward ports now, because the process for it does not run or is "
    "connecting to this host. Try again; if that does not help, run the declaration of the host "
    "again, as with the playbook site."
)
LATE = "the hypervisor did not forward the port in time. Try again."
# dockerd, which starts the containers with a restart policy before it is active.
SERVICE = "docker.service"


def ask(port: int, path: str = SOCKET, patience: float = PATIENCE) -> str:
    """Wait until the hypervisor forwards a port; return the reason if it does not."""
    end = time.monotonic() + patience
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as relay:
            relay.settimeout(max(end - time.monotonic(), PAUSE))
            try:
                relay.connect(path)
                relay.sendall(b"%d\n" % port)
                if answer := relay.makefile("r", encoding="utf-8").readline():
                    return answer.strip() if answer != "ok\n" else ""
            except TimeoutError:
                return LATE
            except OSError:
                pass  # no relay yet, or the next one replaces it
        if time.monotonic() > end:
            return ABSENT
        time.sleep(PAUSE)


def is_docker_starting() -> bool:
    """Return whether dockerd is still starting, and then the container has a restart policy."""
    import subprocess

    command = ["systemctl", "is-active", SERVICE]
    state = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return state.strip() == "activating"


def main(arguments: list[str]) -> None:
    """Become docker-proxy, or report why the port is not reachable."""
    port = forwarded_port(arguments)
    problem = ask(port) if port else ""
    # dockerd would not try again to start this container. The relay lists its port later.
    if problem and not (problem == ABSENT and is_docker_starting()):
        os.write(RESULT, f"1\nport {port}: {problem}".encode())
        raise SystemExit(1)
    os.execvp(PROXY, [PROXY, *arguments])  # noqa: S606  # the program of Docker's package


if __name__ == "__main__":
    main(sys.argv[1:])
