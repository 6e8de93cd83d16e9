# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenSSH's restrictions for a logged-in user. The image's own configuration has the list of users
and disables passwords.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from .part import NOTHING, Part

PATH = "/etc/ssh/sshd_config.d/stockyard-hardening.conf"
# Remote forwarding stays enabled: the tunnel to a proxy uses it.
TEXT = """\
AllowTcpForwarding remote
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitUserEnvironment no
PermitEmptyPasswords no
HostbasedAuthentication no
MaxAuthTries 4
MaxSessions 10
LoginGraceTime 60
ClientAliveInterval 300
ClientAliveCountMax 3
"""


def part(settings: Settings) -> Part:
    """Return OpenSSH's configuration, if the setting ``kernel`` is on."""
    return Part(files={PATH: GuestFile(TEXT)}) if settings.kernel else NOTHING
