# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``stockyard branch``."""

from __future__ import annotations

from stockyard import Yard

from .conftest import Console


def test_children_are_printed_with_their_endpoints(real: Yard, console: Console) -> None:
    code, output, errors = console("branch", "ci-1", "a", "b", "--ttl", "2h", "--label", "run=1")
    assert (code, "branched" in errors) == (0, True)
    first, second = (real.hosts.get(name) for name in "ab")
    assert output == f"a  {first.docker.endpoint}\nb  {second.docker.endpoint}\n"
    assert (first.labels, round(first.expires - first.created)) == ({"run": "1"}, 7200)


def test_children_are_counted_in_a_fleet(real: Yard, console: Console) -> None:
    dry = console("branch", "ci-1", "--count", "2", "--fleet", "tries", "--dry-run")
    assert dry[1].splitlines() == [
        f"would create host tries-{number}: branched from host ci-1" for number in (1, 2)
    ]
    assert real.hosts.list(fleet="tries") == ()
    answer = console.json("branch", "ci-1", "--count", "2", "--fleet", "tries")
    assert [host["name"] for host in answer["hosts"]] == ["tries-1", "tries-2"]
    assert (answer["changed"], len(answer["plan"])) == (True, 2)


def test_holder_branches_a_leased_host_with_the_lease_id(real: Yard, console: Console) -> None:
    lease = real.leases.acquire("ci", holder="me")
    code, _output, errors = console("branch", lease.host)
    assert (code, "it is leased by me" in errors) == (1, True)
    assert console("branch", lease.host, "copy", "--lease", lease.id)[0] == 0
    assert {info.host for info in real.leases.list(holder="me")} == {lease.host, "copy"}


def test_nonsense_is_refused(real: Yard, console: Console) -> None:
    assert console("branch", "ci-1", "a", "--label", "run")[0] == 2
    assert console("branch", "ci-1", "a", "--ttl", "soon")[0] == 2
    assert console("branch", "ci-1", "a", "--containers", "kill")[0] == 2
    assert console("branch", "none", "a")[0] == 1
