# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall that is active before Docker starts. Its rules are in separate tables, so Docker's own
rules do not change.
"""

from __future__ import annotations

from ...model.network import PROXY_PORT
from ...model.recipe import GuestFile
from ...model.security import Settings
from ..agent import way_out
from ..rendering import render
from .part import NOTHING, UNITS, Part

RULES, BRIDGE = "/etc/stockyard/firewall.nft", "/etc/stockyard/bridge.nft"
UNIT = "stockyard-firewall.service"
SSH, DOCKER_TLS = 22, 2376
TEXT = """\
#!/usr/sbin/nft -f
# Created and deleted in one transaction, so that it can be loaded again at any time.
table inet stockyard {}
delete table inet stockyard
table inet stockyard {
  chain input {
    type filter hook input priority -10; policy drop;
    iif lo accept
    ct state established,related accept
    ct state invalid drop
    # Containers may use the host's way to a proxy, and none of the host's other services.
    iifname { "docker0", "br-*", "docker_gwbridge" } tcp dport { {{ proxy }}, {{ relay }} } accept
    iifname { "docker0", "br-*", "docker_gwbridge" } udp dport {{ dns }} accept
    # Refused and not dropped: a look-up in a host without a way out fails at once.
    iifname { "docker0", "br-*", "docker_gwbridge" } reject
    meta l4proto { icmp, ipv6-icmp } accept
    tcp dport { {{ ssh }}, {{ docker }} } accept
  }
  chain forward {
    # Published ports arrive here, translated; Docker's own rules decide about them.
    type filter hook forward priority -10; policy accept;
    ct state invalid drop
{%- if network_mib %}
    # What containers send, all together: what is over the rate is dropped.
    iifname { "docker0", "br-*" } limit rate over {{ network_mib }} mbytes/second drop
{%- endif %}
  }
}
"""
# A separate file: a kernel that does not support the bridge's name in a rule still loads the
# remaining rules, and the audit reports the difference.
FRAMES = """\
#!/usr/sbin/nft -f
table bridge stockyard {}
delete table bridge stockyard
{% if not icc %}
# Nothing goes from one container to another on the default network. Docker's own rules see
# packets of IP alone, and raw sockets in containers write other frames too.
table bridge stockyard {
  chain forward {
    type filter hook forward priority -10; policy accept;
    meta ibrname "docker0" drop
  }
}
{% endif %}"""
SERVICE = """\
[Unit]
Description=stockyard firewall
DefaultDependencies=no
After=systemd-modules-load.service local-fs.target
Before=network-pre.target docker.service sysinit.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/stockyard/firewall.nft
ExecStart=-/usr/sbin/nft -f /etc/stockyard/bridge.nft
ExecReload=/usr/sbin/nft -f /etc/stockyard/firewall.nft
ExecReload=-/usr/sbin/nft -f /etc/stockyard/bridge.nft

[Install]
WantedBy=sysinit.target
"""


def part(settings: Settings) -> Part:
    """Return the rules and the unit that loads them, if the settings need them."""
    if not settings.firewall and not settings.limits.network_mib:
        return NOTHING
    return Part(
        packages=("nftables",),
        files={
            RULES: GuestFile(rules(settings)),
            BRIDGE: GuestFile(render(FRAMES, icc=settings.icc)),
            f"{UNITS}/{UNIT}": GuestFile(SERVICE),
        },
        enable=(UNIT,),
    )


def rules(settings: Settings) -> str:
    """Return the rules in nft's format."""
    text = TEXT if settings.firewall else TEXT.replace("policy drop;", "policy accept;")
    return render(
        text,
        ssh=SSH,
        docker=DOCKER_TLS,
        proxy=PROXY_PORT,
        relay=way_out.RELAY_PORT,
        dns=way_out.DNS_PORT,
        network_mib=settings.limits.network_mib,
    )
