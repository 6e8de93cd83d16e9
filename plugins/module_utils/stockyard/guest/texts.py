# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of the files in a guest, as Jinja templates. An undefined variable is an error."""

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

# The way out of a host with egress proxy: see way_out.py of the agent.
WAY_OUT_UNIT = """\
[Unit]
Description=Way out through the HTTP proxy
ConditionPathExists=/var/lib/stockyard/way-out.json
StartLimitIntervalSec=0

[Service]
Type=notify
Environment=PYTHONPATH=/usr/lib/stockyard
ExecStart=/usr/bin/python3 -m stockyard_agent.way_out
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

# For templates with Docker stopped: systemd starts Docker when the host has its identity, and only
# once. A path unit for docker.service itself would start Docker again after a user stopped it.
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

# The unit of the TLS front, and of its spare. Each has a file of its own name.
# systemd restarts a front any number of times, for example for each list of revoked certificates,
# and soon: a child of a branch can wait for it. In a child the agent ends the front by a signal
# after which systemd does not start it again, and the spare replaces it until the next boot.
# The front is frozen after dynamic linking, while it waits for its configuration: a pipe until the
# host has its identity, then a file. Until then stunnel draws nothing from OpenSSL's generator,
# which is instantiated at the first draw (EVP_RAND(7)): it holds no key and no state from which two
# forks could derive the same secret. stunnel uses two descriptors, a thread and 105 KiB for each
# connection: these limits allow 2,000 connections, for which a guest of 1 GiB has the memory.
TLS_UNIT = """\
[Unit]
Description=Mutual TLS in front of the Docker socket
After=docker.socket
StartLimitIntervalSec=0
ConditionPathExists=/run/stockyard/%N.conf

[Service]
User=stockyard-tls
SupplementaryGroups=docker
ExecStart=/usr/bin/stunnel4 /run/stockyard/%N.conf
LimitNOFILE=4096
TasksMax=2100
Restart=always
RestartSec=100ms
RestartPreventExitStatus=SIGALRM
SuccessExitStatus=SIGALRM
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""

# OpenSSL does not verify a resumed session again: it would outlive the certificate and the list of
# revoked certificates. Sessions are therefore off, by ticket and by number. Docker's client closes
# its sending side at once and waits. By default stunnel then closes the connection after a minute
# without data, and later output of a container is lost: here stunnel waits as long as for idle
# connections (stunnel(8)).
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

# A fork gets its own copy of each page that it writes to. A large page is 512 times as big.
TMPFILES = """\
w /sys/kernel/mm/transparent_hugepage/enabled - - - - never
d /run/stockyard 0755 root root
p /run/stockyard/stockyard-tls.conf 0600 stockyard-tls stockyard-tls
p /run/stockyard/stockyard-tls-spare.conf 0600 stockyard-tls stockyard-tls
d /home/{{ user }} 0755 {{ user }} {{ user }}
"""

# A guest on a busy hypervisor can boot slowly. A unit that times out would make the host unusable.
SYSTEM_CONF = "[Manager]\nDefaultTimeoutStartSec=10min\nDefaultDeviceTimeoutSec=10min\n"

# The guest uses hot-plugged CPUs and memory at once. CPUs that the kernel's option leaves unused
# stay so: QEMU's guest agent switches them on.
HOTPLUG_RULES = """\
SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", IMPORT{cmdline}!="maxcpus", ATTR{online}!="1", \\
  ATTR{online}="1"
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

# If systemd starts sshd for each connection, its default limit is 64 connections.
SSH_SOCKET = "[Socket]\nMaxConnections=256\n"

# In a child of a branch sshd has no host key at first, and fails until it has one. By default
# systemd gives up after five attempts, and closes the socket with it.
SSH_SERVICE = "[Unit]\nStartLimitIntervalSec=0\n"

# Behind QEMU's user network all clients have one address: one client with failed logins would lock
# out all clients. OpenSSH of Debian 12 has no penalties and rejects the option.
SSHD_SOURCES = "PerSourcePenalties no\n"

# The kernel allows 128 inotify instances for each user, and containers without user namespaces are
# all of one user: about ten with systemd use them up. Files of higher numbers override this one.
INOTIFY_SYSCTL = "fs.inotify.max_user_instances = 8192\n"

# Errors go to the console too: its log can be read when no login to the guest is possible.
JOURNALD_CONF = """\
[Journal]
Storage=volatile
RuntimeMaxUse=16M
ForwardToConsole=yes
TTYPath=/dev/console
MaxLevelConsole=err
"""

# The flag is a file in the mount point, which the volume hides: Docker does not start if the volume
# is not mounted. At shutdown Docker stops before the volume is unmounted.
DOCKER_GATE = """\
[Unit]
ConditionPathExists=/run/stockyard/open
ConditionPathExists=!{{ root }}/{{ flag }}
RequiresMountsFor={{ root }}
"""

# dockerd reads this file when it starts. The file contains the proxy, if the host's egress uses a
# proxy.
DOCKER_ENVIRONMENT = "[Service]\nEnvironmentFile=-/etc/environment\n"

# Docker uses containerd only to run containers. Plugins for Kubernetes and for other image stores
# take a third of containerd's start time.
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

# The guest's own address behind QEMU's user network, so that lookups fail at once. The identity
# replaces this file.
RESOLV_CONF = "nameserver 10.0.2.15\noptions timeout:1 attempts:1\n"
