# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard as one self-contained page of HTML: no script, no other file, nothing from the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import MissingDependency
from ..escaping import one_line
from ..model.pool import LIMITS
from ..model.pool_info import PoolInfo
from .html_text import PAGE
from .snapshot import ReportedHost, Snapshot

Row = list[Any]


@dataclass(frozen=True)
class Table:
    """A part of the page: the objects of one kind. A new kind needs one more table.

    :param key: the field of the kind in a snapshot.
    :param row: the cells of one object, in the order of the columns. Cells are text, and are
        escaped.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    row: Callable[[Any], Row]
    empty_text: str


def moment(seconds: float) -> str:
    """Return a time as people read it, in UTC; a dash for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "–"


def _memory(host: ReportedHost) -> str:
    memory = host.info.memory
    return f"{memory.private_mib:.0f} / {memory.shared_mib:.0f}" if memory else "–"


def _of_limit(pool: PoolInfo, limit: str) -> str:
    used_amount, free_amount = getattr(pool.used, limit), getattr(pool.free, limit)
    return (
        str(used_amount) if free_amount is None else f"{used_amount} of {used_amount + free_amount}"
    )


def _held(pool: PoolInfo) -> str:
    return f"{pool.held.private_mib:.0f}" if pool.held else "–"


# The number of refused destinations of a host that the page shows.
REFUSED_SHOWN = 5


def _notes(host: ReportedHost) -> str:
    notes = [*host.info.drift, *(["not of the current generation"] if host.outdated else [])]
    if host.info.refused:
        notes.append(f"refused: {', '.join(map(str, host.info.refused[:REFUSED_SHOWN]))}")
    return "; ".join([*notes, *([host.info.mode_reason] if host.info.mode_reason else [])])


TABLES = (
    Table(
        "fleets",
        "Fleets",
        ("fleet", "tenant", "template", "generations", "ready", "leased", "outdated", "drift"),
        lambda fleet: [
            fleet.name,
            fleet.tenant,
            fleet.template,
            ", ".join(fleet.generations),
            f"{fleet.ready} of {fleet.total}",
            fleet.leased,
            ", ".join(fleet.outdated),
            ", ".join(fleet.drift),
        ],
        "The yard has no fleets.",
    ),
    Table(
        "hosts",
        "Hosts",
        (
            "host",
            "tenant",
            "fleet",
            "generation",
            "state",
            "address",
            "lease",
            "ends",
            "memory: private / shared MiB",
            "labels",
            "notes",
        ),
        lambda host: [
            host.info.name,
            host.info.tenant,
            host.info.fleet,
            f"{host.info.template} {host.info.generation}",
            host.info.state if host.info.ready else f"{host.info.phase}, {host.info.state}",
            host.info.address,
            host.lease_state,
            moment(host.info.expires),
            _memory(host),
            ", ".join(f"{key}={value}" for key, value in sorted(host.info.labels.items())),
            _notes(host),
        ],
        "The yard has no hosts.",
    ),
    Table(
        "templates",
        "Templates",
        ("template", "tenant", "generation", "made", "phase", "problem"),
        lambda template: [
            template.name,
            template.tenant,
            template.generation,
            moment(template.created),
            template.phase,
            template.problem,
        ],
        "The yard has no templates.",
    ),
    Table(
        "leases",
        "Leases",
        ("holder", "host", "fleet", "tenant", "since", "until", "ended"),
        lambda lease: [
            lease.holder,
            lease.host,
            lease.fleet,
            lease.tenant,
            moment(lease.taken),
            moment(lease.until),
            "yes" if lease.ended else "",
        ],
        "The yard has no leases.",
    ),
    Table(
        "pools",
        "Pools",
        (
            "pool",
            "tenant",
            "in",
            "hosts",
            "vCPUs",
            "memory, MiB",
            "disk, GiB",
            "held, MiB",
            "first to go",
            "warnings",
        ),
        lambda pool: [
            pool.name,
            pool.tenant,
            pool.parent,
            *(_of_limit(pool, limit) for limit in LIMITS),
            _held(pool),
            pool.first_to_go,
            "; ".join(pool.warnings),
        ],
        "The yard has no pools.",
    ),
    Table(
        "volumes",
        "Volumes",
        ("volume", "tenant", "size, GiB", "file system", "host", "path", "made", "copy of"),
        lambda volume: [
            volume.name,
            volume.tenant,
            volume.size_gib,
            volume.filesystem,
            volume.host,
            volume.path + ("" if volume.mounted or not volume.host else " (not mounted)"),
            moment(volume.created),
            volume.source,
        ],
        "The yard has no volumes.",
    ),
    Table(
        "strangers",
        "Skipped",
        ("name", "reason"),
        lambda unreadable_object: [unreadable_object.name, unreadable_object.reason],
        "All objects of the yard could be read.",
    ),
)


def page(snapshot: Snapshot) -> str:
    """Return the page. The contents of names and labels remain text in it."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependency("Jinja2 is not installed.", remedy="pip install jinja2") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, finalize=_plain
    )
    tables = [
        (table, [table.row(item) for item in getattr(snapshot, table.key)]) for table in TABLES
    ]
    return environment.from_string(PAGE).render(
        owner=snapshot.owner,
        hypervisor=snapshot.hypervisor,
        taken=moment(snapshot.moment),
        figures=_figures(snapshot),
        tables=tables,
        memory=_bar(snapshot),
    )


def _plain(value: Any) -> Any:
    """Return text without characters that reorder or hide it; marked-up text comes from the
    template itself.
    """
    return one_line(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _figures(snapshot: Snapshot) -> list[tuple[str, Any]]:
    hosts = snapshot.hosts
    return [
        ("hosts", len(hosts)),
        ("ready", sum(host.info.ready for host in hosts)),
        ("leased", sum(host.lease_state == "held" for host in hosts)),
        ("drifting", sum(bool(host.info.drift) for host in hosts)),
        ("outdated", sum(host.outdated for host in hosts)),
    ]


def _bar(snapshot: Snapshot) -> dict[str, Any]:
    """Return the values of the memory bar; each host counts its shared memory, although it exists
    once.
    """
    private_mib, shared_mib = snapshot.private_mib, snapshot.shared_mib
    return {
        "own": round(private_mib),
        "shared": round(shared_mib),
        "part": round(100 * private_mib / (private_mib + shared_mib))
        if private_mib + shared_mib
        else 0,
    }
