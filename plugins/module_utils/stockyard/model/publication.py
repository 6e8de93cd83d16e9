# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of the ports at which other machines reach a host. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ..errors import Conflict
from .host import HostRecord
from .network import PublishSpec
from .observation import Record, UnreadableObject


def bindings_of(records: Iterable[Record | UnreadableObject]) -> Iterable[tuple[str, int]]:
    """Return the addresses and ports that hosts publish."""
    return (
        binding
        for record in records
        if isinstance(record, HostRecord)
        for binding in record.published
    )


def with_ports(
    record: HostRecord,
    used_bindings: Iterable[tuple[str, int]],
    is_free: Callable[[int], bool] = lambda _port: True,
) -> HostRecord:
    """Return the record of a new host with its ports, if the host is published.

    :param used_bindings: the addresses and ports that hosts of all owners publish.
    :param is_free: returns whether no program listens on a port at the declared address.
    :raises Conflict: if the range has too few free ports.
    """
    publish, count = record.spec.publish, record.spec.port_count
    if not publish:
        return record
    ports = publish.free_ports(count, used_bindings, is_free)
    if len(ports) < count:
        raise exhausted(publish, len(ports), count, record.title)
    return replace(record, publish_ports=ports)


def exhausted(publish: PublishSpec, free_count: int, count: int, name: str) -> Conflict:
    """Return the error for a range with too few free ports."""
    first, last = publish.range[0], publish.range[-1]
    return Conflict(
        f"ports {first}-{last} of {publish.address} cannot be published: {free_count} of them are "
        f"free, and {count} are needed.",
        name=name,
        cause="other hosts or programs use the remaining ports",
        remedy="extend the range of ports, or end those programs",
    )
