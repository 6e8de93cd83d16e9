# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed for a cloud image's first and only boot with cloud-init, in a temporary machine.

cloud-init reads the seed (its datasource NoCloud) from the medium that also contains the packages
and stockyard's files: nothing is downloaded, and the machine's network has no way out. The output
of the script goes to the console; an error shows the console's last lines.
"""

from __future__ import annotations

import json

from ..model.recipe import GuestFile
from .rendering import render

# cloud-init searches for a volume of this name. The script finds the disk for its results by the
# serial number.
VOLUME, RESULTS = "CIDATA", "stockyard-results"
KERNEL, INITRD, FACTS = "vmlinuz", "initrd.img", "facts.json"
# Packages that are not installed: the image has a kernel and the tools for its initramfs.
LEFT_OUT = ("linux-image-cloud-amd64", "initramfs-tools", "zstd")
# Units that would configure the network, resolve names or upgrade packages in a host without the
# agent.
MASKED = (
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
    "networking.service",
    "ifup@.service",
    "NetworkManager.service",
    "dhcpcd.service",
    "unattended-upgrades.service",
)
# cloud-init(1): this file keeps cloud-init from running again, in any host.
FILES = {"/etc/cloud/cloud-init.disabled": GuestFile("")}
# sshd_config(5): the first value of a keyword counts, and the image has its own files in that
# directory.
LINKS = {"/etc/ssh/sshd_config.d/00-stockyard.conf": "stockyard.conf"}
# Lines on the console before and after the output of the script.
BEGIN, END = "stockyard: first boot", "stockyard: end of the first boot"
PARCEL = "/run/stockyard-parcel"

FIRST_BOOT = """\
#!/bin/sh
# Run by cloud-init as root. All packages are on the medium, and their signature was checked before.
set -eu
# Whatever the image calls its console: this one is read, from here to there.
exec > /dev/ttyS0 2>&1
echo '{{ begin }}'
trap 'echo "{{ end }}"' EXIT
parcel={{ parcel }}
. /etc/os-release
if [ "$ID ${VERSION_CODENAME:-}" != "debian {{ suite }}" ]; then
  echo "this is $PRETTY_NAME, and what is declared is Debian's {{ suite }}"
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d /run/stockyard.XXXXXX)
mkdir -p "$work/lists/partial"
echo "deb [trusted=yes] file:$parcel/packages ./" > "$work/sources.list"
apt="apt-get --quiet --yes --no-remove
  -o Dir::Etc::SourceList=$work/sources.list -o Dir::Etc::SourceParts=-
  -o Dir::State::Lists=$work/lists -o Acquire::Languages=none
  -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false
  -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
# It has booted with the initramfs that it has: a new one would take minutes, and be no better.
initramfs=/etc/initramfs-tools/update-initramfs.conf
if [ -f "$initramfs" ]; then
  cp -p "$initramfs" "$work/"
  sed -i 's/^update_initramfs=.*/update_initramfs=no/' "$initramfs"
fi
# Nothing is started here: hosts start it.
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
echo "put packages in"
$apt update
xargs $apt install < "$parcel/packages/names"
rm /usr/sbin/policy-rc.d
if [ -f "$initramfs" ]; then cp -p "$work/update-initramfs.conf" "$initramfs"; fi
echo "put files in"
tar -xpf "$parcel/files.tar" -C / --keep-directory-symlink
if [ -d "$parcel/preload" ]; then
  mkdir -p /var/lib/stockyard && cp -r "$parcel/preload" /var/lib/stockyard/
fi
rm -f /etc/ssh/ssh_host_* /etc/docker/key.json /var/lib/dbus/machine-id
systemd-sysusers
systemctl --quiet disable ssh.service
systemctl --quiet enable ssh.socket
echo "hand over kernel and initramfs"
cp "/boot/vmlinuz-$(uname -r)" "$work/{{ kernel }}"
cp "/boot/initrd.img-$(uname -r)" "$work/{{ initrd }}"
printf '{"root": "UUID=%s", "kernel": "%s"}\\n' \\
  "$(findmnt -n -o UUID /)" "$(uname -r)" > "$work/{{ facts }}"
sync
tar -cf /dev/disk/by-id/virtio-{{ results }} -C "$work" {{ kernel }} {{ initrd }} {{ facts }}
echo "all is in"
"""


def without_kernel(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages for an image that already has a kernel."""
    return tuple(name for name in packages if name not in LEFT_OUT)


def seed(suite: str) -> dict[str, GuestFile]:
    """Return cloud-init's input, including the script, as files at the top of the medium."""
    values = {
        "suite": suite,
        "parcel": PARCEL,
        "results": RESULTS,
        "kernel": KERNEL,
        "initrd": INITRD,
        "facts": FACTS,
        "begin": BEGIN,
        "end": END,
    }
    # JSON is YAML, too.
    return {
        "/meta-data": GuestFile(
            json.dumps({"instance-id": "stockyard", "local-hostname": "template"})
        ),
        "/user-data": GuestFile("#cloud-config\n" + json.dumps(_config())),
        "/first-boot": GuestFile(render(FIRST_BOOT, **values), 0o755),
    }


def _config() -> dict[str, object]:
    """Return the user data: no users, no keys, no upgrades. It runs the script and then powers the
    machine off, also if the script failed.
    """
    script = (
        f"mkdir -p {PARCEL} && mount -o ro LABEL={VOLUME} {PARCEL} && exec sh {PARCEL}/first-boot"
    )
    return {
        "users": [],
        "ssh_deletekeys": False,
        "ssh_genkeytypes": [],
        "package_update": False,
        "package_upgrade": False,
        "manage_etc_hosts": False,
        "apt": {"preserve_sources_list": True},
        "locale": False,
        "runcmd": [["sh", "-c", script]],
        "power_state": {"mode": "poweroff", "timeout": 60, "condition": True},
    }
