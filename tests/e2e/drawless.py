# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a TLS front that waits for its configuration has a generator of random numbers."""

from __future__ import annotations

from typing import Any

from .conftest import ssh

# The C library asks for 8 bytes at its start and does without.
DRAWLESS = """
exec 2>&1
set -u
cd /run && rm -f drawless && mkfifo drawless
systemd-run --quiet --unit=drawless \
  --property=SystemCallFilter=~getrandom --property=SystemCallErrorNumber=EPERM \
  --property=InaccessiblePaths=/dev/random --property=InaccessiblePaths=/dev/urandom \
  --remain-after-exit \
  stunnel4 /run/drawless
sleep 3
systemctl show --property=SubState --value drawless | sed 's/^running$/waits/'
sed 's/:2376$/:2399/' /etc/stockyard/stunnel.conf > drawless
for _ in $(seq 50); do
  code=$(systemctl show --property=ExecMainStatus --value drawless)
  [ "$(systemctl show --property=SubState --value drawless)" = running ] || break
  sleep 0.2
done
systemctl stop drawless
systemctl reset-failed drawless
rm drawless
echo "$code"
"""


def waits_without_generator(host: dict[str, Any]) -> None:
    """Where nothing can be drawn it waits; and when it has its configuration, it goes no step
    further.
    """
    done = ssh(host, "sudo", "sh", stdin=DRAWLESS)
    waits, ended = done.stdout.splitlines()
    assert waits == "waits", done.stdout
    assert ended != "0", "it needs none: this tells nothing"
