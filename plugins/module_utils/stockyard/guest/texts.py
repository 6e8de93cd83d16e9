# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every text that goes into a guest, as a Jinja template. An undefined variable is an error."""

from __future__ import annotations

INITRAMFS_CONF = "MODULES=list\nCOMPRESS=zstd\n"

INITRAMFS_HOOK = """\
#!/bin/sh
# Only what the root file system on a virtio disk needs: a small initramfs boots faster.
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_console ext4 crc32c_generic
"""

AGENT_UNIT = """\
[Unit]
Description=stockyard identity agent
After=local-fs.target systemd-tmpfiles-setup.service
StartLimitIntervalSec=0

[Service]
Environment=PYTHONPATH=/usr/lib/stockyard
ExecStart=/usr/bin/python3 -m stockyard_agent.main
Restart=always
RestartSec=1
# The kernel ends other processes first when memory runs out, and not the agent with its children.
OOMScoreAdjust=-900
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""

# For templates with Docker stopped: systemd starts it when the host has its identity. Once: a path
# unit starts what has ended again, and somebody may stop Docker.
OPEN_PATH = """\
[Unit]
Description=Start Docker when this host has its identity

[Path]
PathExists=/run/stockyard/open
Unit=stockyard-open.service

[Install]
WantedBy=multi-user.target
"""
OPEN_UNIT = """\
[Unit]
Description=Start Docker

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/systemctl --no-block start docker.service
"""

# However often it is started anew (for each list of revoked certificates), systemd does not give up
# on it. It is frozen linked and waiting for its configuration: a pipe until the host has its
# identity, then a file. Up to there stunnel draws nothing from OpenSSL's generator, which is
# instantiated when it is first drawn from (EVP_RAND(7)): it holds no key, and nothing of which two
# forks could make the same. stunnel takes two descriptors, a thread and 105 KiB for each
# connection: these limits let 2,000 in, which a guest of 1 GiB has the memory for.
TLS_UNIT = """\
[Unit]
Description=Mutual TLS in front of the Docker socket
After=docker.socket
StartLimitIntervalSec=0

[Service]
User=stockyard-tls
SupplementaryGroups=docker
ExecStart=/usr/bin/stunnel4 /run/stockyard/stunnel.conf
LimitNOFILE=4096
TasksMax=2100
Restart=always
RestartSec=1
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""

# A session that is resumed is not verified again: it would outlive the certificate and the list of
# revoked ones. There are none, by ticket or by number. Docker's client says at once that it sends
# no more, and waits. By default stunnel closes after a minute of silence, and what a container says
# later is lost: here it waits as long as for connections that are idle (stunnel(8)).
STUNNEL_CONF = """\
foreground = yes
pid =
syslog = no
debug = warning

[docker]
accept = :::2376
connect = /run/docker.sock
TIMEOUTclose = 43200
cert = /var/lib/stockyard/tls/cert.pem
key = /var/lib/stockyard/tls/key.pem
CAfile = /var/lib/stockyard/tls/ca.pem
CRLfile = /var/lib/stockyard/tls/crl.pem
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.2
sessionResume = no
"""

SYSUSERS = """\
u stockyard-tls - "stockyard TLS front" - -
m stockyard-tls docker
u {{ user }} - "container host user" /home/{{ user }} /bin/bash
m {{ user }} docker
"""

# What a fork writes to is its own from then on: with large pages that is up to 512 times as much.
TMPFILES = """\
w /sys/kernel/mm/transparent_hugepage/enabled - - - - never
d /run/stockyard 0755 root root
p /run/stockyard/stunnel.conf 0600 stockyard-tls stockyard-tls
d /home/{{ user }} 0755 {{ user }} {{ user }}
"""

# A guest on a busy hypervisor may boot slowly, and a unit that gave up would leave it half a host.
SYSTEM_CONF = "[Manager]\nDefaultTimeoutStartSec=10min\nDefaultDeviceTimeoutSec=10min\n"

# What is plugged in later is used at once; memory so that it can be given back.
HOTPLUG_RULES = """\
SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}!="1", ATTR{online}="1"
SUBSYSTEM=="memory", ACTION=="add", TEST=="state", ATTR{state}=="offline", \\
  ATTR{state}="online_movable"
"""

SUDOERS = "{{ user }} ALL=(ALL:ALL) NOPASSWD: ALL\n"

SSHD_CONF = """\
HostKey /etc/ssh/ssh_host_ed25519_key
AllowUsers {{ user }}
AuthorizedKeysFile /etc/ssh/stockyard_authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
# Docker's client opens a connection for each command (DOCKER_HOST=ssh://…). By default sshd drops
# those above ten.
MaxStartups 200
MaxSessions 200
# For the tunnel to a proxy, which containers use too: its client names the address of the host.
GatewayPorts clientspecified
"""

# Where sshd is started for each connection, systemd lets 64 in.
SSH_SOCKET = "[Socket]\nMaxConnections=256\n"

# Behind QEMU's user network all clients come from one address: a client that fails would lock out
# all others. OpenSSH of Debian 12 has no penalties, and does not know the word.
SSHD_SOURCES = "PerSourcePenalties no\n"

# Errors go to the console too: its log is what is left of a guest that nobody can log in to.
JOURNALD_CONF = """\
[Journal]
Storage=volatile
RuntimeMaxUse=16M
ForwardToConsole=yes
TTYPath=/dev/console
MaxLevelConsole=err
"""

# The flag is in the directory under a volume that belongs there: it is seen when the volume is not
# mounted. At the end Docker stops before the volume is unmounted.
DOCKER_GATE = """\
[Unit]
ConditionPathExists=/run/stockyard/open
ConditionPathExists=!{{ root }}/{{ flag }}
RequiresMountsFor={{ root }}
"""

# dockerd reads it when it starts. It holds the proxy of a host whose egress is one.
DOCKER_ENVIRONMENT = "[Service]\nEnvironmentFile=-/etc/environment\n"

# Docker uses containerd to run containers only. Plugins for Kubernetes and for other ways to store
# images take a third of its start.
CONTAINERD_CONFIG = """\
version = 2
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
"""

# The guest's own address behind QEMU's user network: lookups are refused at once. The identity
# replaces it.
RESOLV_CONF = "nameserver 10.0.2.15\noptions timeout:1 attempts:1\n"
