# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Due renewals, by a host's record alone, and their plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard.hypervisor.records import decode, encode
from stockyard.model.fleet import FleetSpec, SingleSpec
from stockyard.model.host import Host, Identity
from stockyard.planning.fleets import plan_fleet
from stockyard.planning.plan import Plan, plan_host
from stockyard.planning.trust import Trust
from tests.helpers.samples import HOST_KEY, host, host_record

END = 1_900_000_000.0
IDENTITY = Identity("m", HOST_KEY, "c1", END, authority="own", revoked={"aa": END})
TRUST = Trust("own", END - 1, {"aa": END})
GENERATION = "g1" * 32


def one(state: str = "running", **changes: Any) -> Host:
    return host(state, identity=replace(IDENTITY, **changes))


@pytest.mark.parametrize(
    ("trust", "expected"),
    [
        (TRUST, []),
        (replace(TRUST, renew_before=END), []),
        (replace(TRUST, renew_before=END + 1), ["its certificate ends on 2030-03-17"]),
        (replace(TRUST, authority="t" * 64), ["it trusts a different CA (own)"]),
        (
            replace(TRUST, authority=""),
            ["its tenant has no CA on this controller: a new CA will be created"],
        ),
        (
            replace(TRUST, revoked={"aa": END, "bb": END}),
            ["its list of revoked certificates is outdated"],
        ),
        (replace(TRUST, revoked={}), []),
    ],
)
def test_reasons(trust: Trust, expected: list[str]) -> None:
    assert trust.reasons(IDENTITY) == expected
    assert trust.reasons(None) == []
    plan = plan_fleet(FleetSpec("ci", "base"), GENERATION, [one()], trust=trust)
    assert [(a.verb, a.reason) for a in plan.actions] == [("renew", r) for r in expected]
    assert all(a.before != a.after for a in plan.actions)


def test_diff_of_a_renewal_has_ca_certificate_and_revoked_serials() -> None:
    trust = Trust("theirs", END - 1, {"bb": END, "aa": END})
    (action,) = plan_fleet(FleetSpec("ci", "base"), GENERATION, [one()], trust=trust).actions
    assert action.before == {"authority": "own", "certificate": "c1", "revoked": ["aa"]}
    new = "known after its creation"
    assert action.after == {"authority": "theirs", "certificate": new, "revoked": ["aa", "bb"]}


def test_host_without_ca_information_is_unchanged() -> None:
    assert TRUST.reasons(replace(IDENTITY, authority="")) == []
    assert replace(TRUST, authority="").reasons(replace(IDENTITY, authority="")) == []


def test_all_reasons_are_reported_together() -> None:
    assert len(Trust("theirs", END + 1, {"bb": END}).reasons(IDENTITY)) == 3


def test_a_host_that_is_replaced_is_not_renewed() -> None:
    plan = plan_fleet(FleetSpec("ci", "base"), "n" * 64, [one()], trust=Trust("", 0.0))
    assert [a.verb for a in plan.actions] == ["create", "delete"]


def test_stopped_host_is_started_before_the_renewal() -> None:
    plan = plan_fleet(
        FleetSpec("ci", "base", labels={"a": "1"}), GENERATION, [one("off")], trust=Trust("", 0.0)
    )
    assert [a.verb for a in plan.actions] == ["start", "renew", "relabel"]


@pytest.mark.parametrize(
    ("state", "verbs"),
    [("present", ["renew"]), ("restarted", ["restart", "renew"]), ("replaced", ["replace"])],
)
def test_a_host_of_its_own(state: str, verbs: list[str]) -> None:
    alone = replace(one(), record=replace(one().record, fleet="", name="ci-1"))
    plan = plan_host(SingleSpec("ci-1", "base"), state, GENERATION, alone, Trust("", 0.0))
    assert [a.verb for a in plan.actions] == verbs


def test_certificates_are_not_renewed_without_a_request() -> None:
    assert plan_fleet(FleetSpec("ci", "base"), GENERATION, [one()]) == Plan()


def test_a_record_of_before_still_reads() -> None:
    text = encode(host_record(identity=IDENTITY))
    assert decode(text).identity == IDENTITY  # type: ignore[union-attr]
    old = text.replace('"authority":"own",', "").replace(',"revoked":{"aa":1900000000.0}', "")
    assert old != text
    assert decode(old).identity == replace(IDENTITY, authority="", revoked={})  # type: ignore[union-attr]
