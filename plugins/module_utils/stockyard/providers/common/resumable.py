# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether a hypervisor can resume the memory of a template, or boot its disk."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import Unsupported
from ...model.platform import Drift
from ...model.template import TemplateRecord


def require(record: TemplateRecord, drift: Sequence[Drift], mode: str = "instant") -> None:
    """Refuse a fork that is not possible on the platform of the hypervisor.

    An instant fork resumes memory. Other forks boot from the disk, in a machine of the same type,
    and with the CPU model that the template declares.

    :param drift: the differences from the platform that the template was frozen on.
    :param mode: the mode of the fork.
    :raises Unsupported: with the differences.
    """
    preventing = [item for item in drift if item.prevents_instant_forks]
    if mode != "instant":
        needed = ("machine", "accelerator", *(["cpu_model"] if record.hardware.cpu.model else []))
        preventing = [item for item in preventing if item.fact in needed]
    if preventing:
        verb = "resume the memory" if mode == "instant" else "boot the disk"
        raise Unsupported(
            f"the hypervisor cannot {verb} of the template.",
            name=record.title,
            cause="; ".join(map(str, preventing)),
            remedy="build the template again on this hypervisor",
        )
