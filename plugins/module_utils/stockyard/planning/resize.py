# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sizes a running host can take on where it is, and which only by being made anew. Pure.

Processors are plugged in one by one; memory in equal steps, of which a machine has a number of
slots. What a machine was frozen with cannot be taken out of it.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import Unsupported
from ..model.host import UP, HostRecord, HostSpec
from ..model.size import Size

# Linux adds and removes memory in blocks of this size on x86 (memory-hotplug.rst).
BLOCK_MIB = 128
SLOTS = 16
FIELDS = ("vcpus", "memory_mib")


def step(least: int, most: int) -> int:
    """The MiB of memory that are plugged in at a time; 0 where none can be."""
    room = most - least
    return BLOCK_MIB * -(-room // (BLOCK_MIB * SLOTS)) if room >= BLOCK_MIB else 0


def wanted(spec: HostSpec, frozen: Size) -> Size:
    """The size that a host is to have: what is declared, else what its template was frozen with."""
    return replace(
        frozen, vcpus=spec.vcpus or frozen.vcpus, memory_mib=spec.memory_mib or frozen.memory_mib
    )


def why_not(size: Size, frozen: Size, most: Size) -> str:
    """Why a machine cannot take on a size while it runs; empty when it can.

    :param most: what can be plugged into it; 0 where nothing can.
    """
    for name, unit in (("vcpus", "vCPUs"), ("memory_mib", "MiB of memory")):
        want, least, top = (
            getattr(size, name),
            getattr(frozen, name),
            max(getattr(frozen, name), getattr(most, name)),
        )
        if want < least:
            return f"its template was frozen with {least} {unit}, which cannot be taken out"
        if want > top:
            return f"{top} {unit} are the most that can be plugged into it"
    stride = step(frozen.memory_mib, most.memory_mib)
    if size.memory_mib > frozen.memory_mib and (size.memory_mib - frozen.memory_mib) % stride:
        return f"memory is plugged in by {stride} MiB, beginning at {frozen.memory_mib} MiB"
    return ""


def in_place(record: HostRecord, spec: HostSpec) -> str:
    """Why a host that is there cannot take on a declared size where it is; empty when it can."""
    if not record.frozen.vcpus:
        return "it was made before hosts could be resized"
    size = wanted(spec, record.frozen)
    if record.resizes == UP and (
        size.vcpus < record.size.vcpus or size.memory_mib < record.size.memory_mib
    ):
        return "what it was given while it ran cannot be taken back here"
    return why_not(size, record.frozen, record.most)


def check(spec: HostSpec, frozen: Size, most: Size, name: str) -> None:
    """Refuse a size that no host of a template can have.

    :raises Unsupported: with the reason.
    """
    why = why_not(wanted(spec, frozen), frozen, most)
    if why:
        raise Unsupported(
            f"it cannot have {spec.vcpus or frozen.vcpus} vCPUs and "
            f"{spec.memory_mib or frozen.memory_mib} MiB.",
            name=name,
            cause=why,
            remedy="declare another size, or a template with other vcpus, memory_mib, max_vcpus"
            " and max_memory_mib",
        )


def only_size(changed: list[str]) -> bool:
    """Whether nothing but the size differs."""
    return bool(changed) and set(changed) <= set(FIELDS)
