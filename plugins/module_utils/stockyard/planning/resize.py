# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes that a running host can take in place, and the sizes that need a replacement. Pure.

Processors are plugged in one by one; memory in equal steps, of which a machine has a fixed number
of slots. Resources that a machine was frozen with cannot be taken out.
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


def step(minimum: int, maximum: int) -> int:
    """Return the MiB of memory that are plugged in at a time; 0 if memory cannot be plugged in."""
    headroom = maximum - minimum
    return BLOCK_MIB * -(-headroom // (BLOCK_MIB * SLOTS)) if headroom >= BLOCK_MIB else 0


def desired_size(spec: HostSpec, frozen: Size) -> Size:
    """Return the size that a host must have: the declared values, else those of its frozen
    template.
    """
    return replace(
        frozen, vcpus=spec.vcpus or frozen.vcpus, memory_mib=spec.memory_mib or frozen.memory_mib
    )


def fitting_size(required: Size, frozen: Size, maximum: Size) -> Size:
    """Return the smallest size of a machine, with whole steps of memory, that has what is required.
    It can be larger than the maximum: :func:`why_not` says so.
    """
    memory_mib = max(required.memory_mib, frozen.memory_mib)
    stride = step(frozen.memory_mib, maximum.memory_mib)
    if stride:
        memory_mib = frozen.memory_mib + -(-(memory_mib - frozen.memory_mib) // stride) * stride
    return replace(frozen, vcpus=max(required.vcpus, frozen.vcpus), memory_mib=memory_mib)


def why_not(size: Size, frozen: Size, maximum: Size) -> str:
    """Return the reason why a machine cannot take a size while it runs; empty if it can.

    :param maximum: the largest size that can be plugged in; 0 if nothing can be plugged in.
    """
    for name, unit in (("vcpus", "vCPUs"), ("memory_mib", "MiB of memory")):
        requested, minimum, upper_limit = (
            getattr(size, name),
            getattr(frozen, name),
            max(getattr(frozen, name), getattr(maximum, name)),
        )
        if requested < minimum:
            return f"its template was frozen with {minimum} {unit}, which cannot be removed"
        if requested > upper_limit:
            return f"its maximum is {upper_limit} {unit}"
    stride = step(frozen.memory_mib, maximum.memory_mib)
    if size.memory_mib > frozen.memory_mib and (size.memory_mib - frozen.memory_mib) % stride:
        return f"its memory grows in steps of {stride} MiB from {frozen.memory_mib} MiB"
    return ""


def in_place(record: HostRecord, spec: HostSpec) -> str:
    """Return the reason why an existing host cannot take a declared size in place; empty if
    it can.
    """
    if not record.template_size.vcpus:
        return "its record has no template size, because an older version of stockyard created it"
    size = desired_size(spec, record.template_size)
    if record.resize_mode == UP and (
        size.vcpus < record.size.vcpus or size.memory_mib < record.size.memory_mib
    ):
        return "this hypervisor cannot reduce the size of a running host"
    return why_not(size, record.template_size, record.max_size)


def check(spec: HostSpec, frozen: Size, maximum: Size, name: str) -> None:
    """Refuse a size that no host of a template can have.

    :raises Unsupported: with the reason.
    """
    reason = why_not(desired_size(spec, frozen), frozen, maximum)
    if reason:
        raise Unsupported(
            f"a host cannot have {spec.vcpus or frozen.vcpus} vCPUs and "
            f"{spec.memory_mib or frozen.memory_mib} MiB.",
            name=name,
            cause=reason,
            remedy="declare another size, or a template with other vcpus, memory_mib, max_vcpus"
            " and max_memory_mib",
        )


def only_size(changed_fields: list[str]) -> bool:
    """Return whether the size is the only difference."""
    return bool(changed_fields) and set(changed_fields) <= set(FIELDS)
