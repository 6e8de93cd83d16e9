# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands ``stockyard ls`` and ``stockyard show``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import say
from .command import HOST, JSON, Command, Option, Options
from .select import select_host

if TYPE_CHECKING:
    from ..yard import Yard

LEASES = {"held": "leased", "over": "expired", "free": "free", "none": ""}


def _list(yard: Yard, options: Options) -> int:
    listing = yard.listing()
    conditions = {"tenant": options.tenant, "fleet": options.fleet, "template": options.template}
    hosts = [
        host
        for host in listing.hosts
        if all(host[key] == value for key, value in conditions.items() if value)
    ]
    for item in listing.unreadable:
        say.err(f"stockyard: {item.name} cannot be read: {item.reason}")
    if options.json:
        say.data(hosts)
        return 0
    if not hosts:
        say.err("stockyard: no hosts")
    tenants = len({host["tenant"] for host in hosts}) > 1
    headings = ("NAME", "STATE", "READY", "FLEET", "TEMPLATE", "ADDRESS", "LEASE")
    say.table(
        (*headings, *(["TENANT"] if tenants else [])),
        [(*_row(host), *([host["tenant"]] if tenants else [])) for host in hosts],
    )
    return 0


def _row(host: dict[str, Any]) -> tuple[str, ...]:
    lease = host["lease"]
    return (
        host["name"],
        host["state"],
        "yes" if host["ready"] else "no",
        host["fleet"],
        host["template"],
        host["ssh"]["host"],
        lease["holder"] or LEASES[lease["state"]],
    )


def _show(yard: Yard, options: Options) -> int:
    name, tenant = select_host(yard, options)
    facts = yard.hosts.get(name, tenant).to_dict()
    if options.json:
        say.data(facts)
        return 0
    lines = [(key, text) for key, text in _lines(facts) if text]
    width = max(len(key) for key, _text in lines)
    for key, text in lines:
        say.out(f"{key:{width}}  {text}")
    return 0


def _lines(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return the facts of an object, each with its key; nested keys are joined by dots."""
    for key, value in facts.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(_item, value))
        else:
            yield f"{prefix}{key}", "" if value is None else str(value)


def _item(value: Any) -> str:
    """Return an item of a list."""
    if isinstance(value, dict):
        return " ".join(f"{key}={text}" for key, text in value.items())
    return str(value)


LIST = Command(
    "ls",
    "list the hosts",
    _list,
    (
        Option("--fleet", "only this fleet"),
        Option("--template", "only hosts of this template"),
        Option("--tenant", "only this tenant"),
        JSON,
    ),
)
SHOW = Command(
    "show",
    "show all facts of a host",
    _show,
    (HOST, Option("--tenant", "the tenant of the host"), JSON),
)
