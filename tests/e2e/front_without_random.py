# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a TLS front that waits for its configuration has a generator of random numbers."""

from __future__ import annotations

from stockyard import HostInfo

from .conftest import ssh

# The C library asks for 8 bytes at its start and does without.
WITHOUT_RANDOM = """
exec 2>&1
set -u
cd /run && rm -f without-random && mkfifo without-random
systemd-run --quiet --unit=without-random \
  --property=SystemCallFilter=~getrandom --property=SystemCallErrorNumber=EPERM \
  --property=InaccessiblePaths=/dev/random --property=InaccessiblePaths=/dev/urandom \
  --remain-after-exit \
  stunnel4 /run/without-random
sleep 3
systemctl show --property=SubState --value without-random | sed 's/^running$/waits/'
sed 's/:2376$/:2399/' /etc/stockyard/stunnel.conf > without-random
for _ in $(seq 50); do
  code=$(systemctl show --property=ExecMainStatus --value without-random)
  [ "$(systemctl show --property=SubState --value without-random)" = running ] || break
  sleep 0.2
done
systemctl stop without-random
systemctl reset-failed without-random
rm without-random
echo "$code"
"""


def waits_without_generator(host: HostInfo) -> None:
    """Where nothing can be drawn it waits; and when it has its configuration, it goes no step
    further.
    """
    result = ssh(host, "sudo", "sh", stdin=WITHOUT_RANDOM)
    waits, ended = result.stdout.splitlines()
    assert waits == "waits", result.stdout
    assert ended != "0", "it needs none: this tells nothing"
