# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A separate file system for images and containers, in one file, so that they never fill the host's
disk.

ext4's quotas and its reserved blocks for root do not limit them: overlayfs writes with the rights
of dockerd. In a separate file system they can use up only the space and the inodes of that file
system.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from ..rendering import render
from .part import NOTHING, UNITS, Part

UNIT = "stockyard-disk.service"
PROGRAM = "/usr/lib/stockyard/disk"
IMAGE = "/var/lib/stockyard/docker.ext4"
ROOT = "/var/lib/docker"
SERVICE = """\
[Unit]
Description=A file system of their own for containers
DefaultDependencies=no
RequiresMountsFor=/var/lib
After=local-fs.target
# What the kernel's audit is to watch has to be there when its rules are read.
Before=auditd.service sysinit.target docker.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={{ program }}

[Install]
WantedBy=sysinit.target
"""
# Docker does not start without the file system, and stops before it is unmounted.
ORDER = "[Unit]\nRequires={{ unit }}\nAfter={{ unit }}\nRequiresMountsFor={{ root }}\n"
# The file is sparse: it uses only the space of its contents. Its size is limited so that a tenth of
# the disk remains for the host.
TEXT = """\
#!/bin/sh
set -e
image={{ image }} root={{ root }}
! mountpoint -q $root || exit 0
if [ ! -e $image ]; then
  # Docker's data that were there before this stay where they are; the audit tells of it.
  [ -z "$(ls -A $root 2>/dev/null)" ] || exit 0
  mkdir -p "${image%/*}"
  set -- $(df --block-size=1M --output=size,avail "${image%/*}" | tail -n 1)
  size=$(($1 * {{ percent }} / 100)) most=$(($2 - $1 / 10))
  [ $size -le $most ] || size=$most
  rm -f $image.new
  truncate --size=${size}M $image.new
  mkfs.ext4 -q -F -m 0 -J size=32 -E lazy_journal_init=1 $image.new
  mv $image.new $image
fi
mkdir -p -m 0710 $root
exec mount -o loop,discard $image $root
"""


def part(settings: Settings) -> Part:
    """Return the program and units of the file system, if the settings limit the disk."""
    percent = settings.limits.disk_percent
    if not percent:
        return NOTHING
    values = {"unit": UNIT, "program": PROGRAM, "image": IMAGE, "root": ROOT, "percent": percent}
    return Part(
        files={
            PROGRAM: GuestFile(render(TEXT, **values), 0o755),
            f"{UNITS}/{UNIT}": GuestFile(render(SERVICE, **values)),
            f"{UNITS}/docker.service.d/disk.conf": GuestFile(render(ORDER, **values)),
        },
        enable=(UNIT,),
    )
