# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard as one page of HTML that needs nothing else: no script, no file beside it, nothing from
the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import MissingDependency
from ..escaping import one_line
from ..model.pool import LIMITS
from .html_text import PAGE
from .snapshot import Snapshot, memory

Row = list[Any]


@dataclass(frozen=True)
class Table:
    """A part of the page: the objects of one kind. A new kind is one more of these.

    :param key: the kind, as a survey has it; a survey that lacks it has no such table.
    :param row: what is shown of one object, in the order of the columns. Cells are text, and are
        escaped.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    row: Callable[[dict[str, Any]], Row]
    none: str


def moment(seconds: float) -> str:
    """A time as people read it, in UTC; a dash for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "–"


def _memory(host: dict[str, Any]) -> str:
    used = host["memory"]
    return f"{used['private_mib']:.0f} / {used['shared_mib']:.0f}" if used else "–"


def _of_limit(pool: dict[str, Any], limit: str) -> str:
    used, free = pool["used"][limit], pool["free"][limit]
    return str(used) if free is None else f"{used} of {used + free}"


def _held(pool: dict[str, Any]) -> str:
    return f"{pool['held']['private_mib']:.0f}" if pool["held"] else "–"


def _notes(host: dict[str, Any]) -> str:
    notes = [*host["drift"], *(["not of the newest generation"] if host["outdated"] else [])]
    return "; ".join([*notes, *([host["mode_reason"]] if host["mode_reason"] else [])])


TABLES = (
    Table(
        "fleets",
        "Fleets",
        ("fleet", "tenant", "template", "generations", "ready", "leased", "outdated", "drift"),
        lambda f: [
            f["name"],
            f["tenant"],
            f["template"],
            ", ".join(f["generations"]),
            f"{f['ready']} of {f['total']}",
            f["leased"],
            ", ".join(f["outdated"]),
            ", ".join(f["drift"]),
        ],
        "There is no fleet.",
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
            "memory: own / shared MiB",
            "labels",
            "notes",
        ),
        lambda h: [
            h["name"],
            h["tenant"],
            h["fleet"],
            f"{h['template']} {h['generation']}",
            h["state"] if h["ready"] else f"{h['phase']}, {h['state']}",
            h["address"],
            h["lease_state"],
            moment(h["expires"]),
            _memory(h),
            ", ".join(f"{k}={v}" for k, v in sorted(h["labels"].items())),
            _notes(h),
        ],
        "There is no host.",
    ),
    Table(
        "templates",
        "Templates",
        ("template", "tenant", "generation", "made", "phase", "problem"),
        lambda t: [
            t["name"],
            t["tenant"],
            t["generation"],
            moment(t["created"]),
            t["phase"],
            t["problem"],
        ],
        "There is no template.",
    ),
    Table(
        "leases",
        "Leases",
        ("holder", "host", "fleet", "tenant", "since", "until", "ended"),
        lambda x: [
            x["holder"],
            x["host"],
            x["fleet"],
            x["tenant"],
            moment(x["taken"]),
            moment(x["until"]),
            "yes" if x["ended"] else "",
        ],
        "Nobody holds a lease.",
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
        lambda p: [
            p["name"],
            p["tenant"],
            p["parent"],
            *(_of_limit(p, limit) for limit in LIMITS),
            _held(p),
            p["first_to_go"],
            "; ".join(p["warnings"]),
        ],
        "There is no pool.",
    ),
    Table(
        "volumes",
        "Volumes",
        ("volume", "tenant", "size, GiB", "file system", "host", "path", "made", "copy of"),
        lambda v: [
            v["name"],
            v["tenant"],
            v["size_gib"],
            v["filesystem"],
            v["host"],
            v["path"] + ("" if v["mounted"] or not v["host"] else " (not mounted)"),
            moment(v["created"]),
            v["source"],
        ],
        "There is no volume.",
    ),
    Table(
        "strangers",
        "Left alone",
        ("name", "reason"),
        lambda s: [s["name"], s["reason"]],
        "Everything that carries our mark could be read.",
    ),
)


def page(found: Snapshot) -> str:
    """The page. Whatever names and labels hold, they are text in it."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependency("Jinja2 is not installed.", remedy="pip install jinja2") from error
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, finalize=_plain
    )
    tables = [(t, [t.row(item) for item in found[t.key]]) for t in TABLES if t.key in found]
    return environment.from_string(PAGE).render(
        owner=found["owner"],
        hypervisor=found["hypervisor"],
        taken=moment(found["taken"]),
        figures=_figures(found),
        tables=tables,
        memory=_bar(found),
    )


def _plain(value: Any) -> Any:
    """Text without what reorders or hides it; marked-up text is the template's own."""
    return one_line(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _figures(found: Snapshot) -> list[tuple[str, Any]]:
    hosts = found["hosts"]
    return [
        ("hosts", len(hosts)),
        ("ready", sum(h["ready"] for h in hosts)),
        ("leased", sum(h["lease_state"] == "held" for h in hosts)),
        ("drifting", sum(bool(h["drift"]) for h in hosts)),
        ("outdated", sum(h["outdated"] for h in hosts)),
    ]


def _bar(found: Snapshot) -> dict[str, Any]:
    """What the bar of memory shows; each host counts what it shares, though it is there once."""
    own, shared = memory(found, "private_mib"), memory(found, "shared_mib")
    return {
        "own": round(own),
        "shared": round(shared),
        "part": round(100 * own / (own + shared)) if own + shared else 0,
    }
