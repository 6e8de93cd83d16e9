# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard as metrics, in Prometheus' text form
(https://prometheus.io/docs/instrumenting/exposition_formats/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..model.pool import LIMITS
from .snapshot import ReportedHost, Snapshot

Labels = dict[str, str]
Sample = tuple[Labels, float]
MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class Metric:
    """One metric: its name, its meaning, and its samples in a snapshot."""

    name: str
    meaning: str
    samples: Callable[[Snapshot], Iterable[Sample]]


def _of(
    kind: str, parts: tuple[str, ...], value: Callable[[Any], float]
) -> Callable[[Snapshot], list[Sample]]:
    """Return a function that gives one sample for each object of a kind, with some of its facts as
    labels.
    """
    return lambda snapshot: [
        ({part: str(getattr(item, part)) for part in parts}, value(item))
        for item in getattr(snapshot, kind)
    ]


def _host(host: ReportedHost) -> Labels:
    return {"tenant": host.info.tenant, "fleet": host.info.fleet, "host": host.info.name}


def _pools(snapshot: Snapshot, part: str) -> list[Sample]:
    return [
        ({"tenant": pool.tenant, "name": pool.name, "limit": limit}, float(value))
        for pool in snapshot.pools
        for limit in LIMITS
        if (value := getattr(getattr(pool, part), limit)) is not None
    ]


FLEET = ("tenant", "name", "template")
METRICS = (
    Metric("fleet_hosts", "Hosts of a fleet.", _of("fleets", FLEET, lambda fleet: fleet.total)),
    Metric(
        "fleet_hosts_ready",
        "Hosts of a fleet that are complete and running.",
        _of("fleets", FLEET, lambda fleet: fleet.ready),
    ),
    Metric(
        "fleet_hosts_leased",
        "Hosts of a fleet that are leased.",
        _of("fleets", FLEET, lambda fleet: fleet.leased),
    ),
    Metric(
        "fleet_hosts_outdated",
        "Hosts of a fleet that are not of the current generation.",
        _of("fleets", FLEET, lambda fleet: len(fleet.outdated)),
    ),
    Metric(
        "host_ready",
        "Whether a host is complete and running.",
        lambda snapshot: [
            (
                {**_host(host), "phase": host.info.phase, "state": host.info.state},
                float(host.info.ready),
            )
            for host in snapshot.hosts
        ],
    ),
    Metric(
        "host_created_timestamp_seconds",
        "When a host was created.",
        lambda snapshot: [(_host(host), host.info.created) for host in snapshot.hosts],
    ),
    Metric(
        "host_expires_timestamp_seconds",
        "When a host's time to live ends, if it has one.",
        lambda snapshot: [
            (_host(host), host.info.expires) for host in snapshot.hosts if host.info.expires
        ],
    ),
    Metric(
        "host_drift",
        "Reasons for which the certificate of a host must be renewed.",
        lambda snapshot: [(_host(host), float(len(host.info.drift))) for host in snapshot.hosts],
    ),
    Metric(
        "host_memory_bytes",
        "Guest RAM of a host that is private, and that is shared with its template.",
        lambda snapshot: [
            ({**_host(host), "kind": kind}, getattr(host.info.memory, f"{kind}_mib") * MIB)
            for host in snapshot.hosts
            if host.info.memory
            for kind in ("private", "shared")
        ],
    ),
    Metric(
        "lease_until_timestamp_seconds",
        "When a lease ends.",
        lambda snapshot: [
            (
                {
                    "tenant": lease.tenant,
                    "fleet": lease.fleet,
                    "host": lease.host,
                    "holder": lease.holder,
                },
                lease.until,
            )
            for lease in snapshot.leases
        ],
    ),
    Metric(
        "template_usable",
        "Whether a generation of a template is usable for forks.",
        _of(
            "templates",
            ("tenant", "name", "generation"),
            lambda template: float(template.usable),
        ),
    ),
    Metric(
        "pool_used",
        "The part of a pool that its hosts use, by their nominal sizes.",
        lambda snapshot: _pools(snapshot, "used"),
    ),
    Metric(
        "pool_free",
        "The free part of a pool, if it has a limit.",
        lambda snapshot: _pools(snapshot, "free"),
    ),
    Metric(
        "volume_size_bytes",
        "The size of a volume.",
        _of("volumes", ("tenant", "name", "host"), lambda volume: volume.size_gib * GIB),
    ),
    Metric(
        "strangers",
        "Objects with stockyard's mark that cannot be read.",
        lambda snapshot: [({}, float(len(snapshot.strangers)))],
    ),
)


def metrics(snapshot: Snapshot) -> str:
    """Return the text, each sample with owner and hypervisor. Equal yards give equal texts."""
    common_labels = {"owner": snapshot.owner, "hypervisor": snapshot.hypervisor}
    lines: list[str] = []
    for metric in METRICS:
        name = f"stockyard_{metric.name}"
        lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} gauge"]
        lines += [
            f"{name}{{{_labels({**common_labels, **labels})}}} {float(value)!r}"
            for labels, value in metric.samples(snapshot)
        ]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
