# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of fleets, against a model of a hypervisor that does exactly what a plan says, in the worst
order.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stockyard.errors import Conflict, InvalidInput
from stockyard.model.fleet import FleetSpec
from stockyard.model.host import HOST_PHASES, RUN_STATES, Host, HostSpec
from stockyard.model.lease import Lease
from stockyard.model.update import UpdateSpec
from stockyard.planning.fleets import ALWAYS, plan_fleet
from stockyard.planning.plan import UNKNOWN_GENERATION, Action, Plan
from tests.helpers.samples import host

OLD, NEW = "a" * 64, "b" * 64
SPECS = st.sampled_from([HostSpec(), HostSpec(ports=(80,)), HostSpec(engine_identity="unique")])
LABELS = st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": ""}])
HOSTS = st.builds(
    lambda tenant, fleet, name, phase, state, generation, spec, labels: host(
        state,
        tenant=tenant,
        fleet=fleet,
        name=name,
        phase=phase,
        generation=generation,
        spec=spec,
        labels=labels,
    ),
    st.sampled_from(["default", "default", "default", "other"]),
    st.sampled_from(["ci", "ci", "ci", "ci", "web", ""]),
    st.integers(1, 9).map(lambda n: f"ci-{n}") | st.sampled_from(["a", "b", "c"]),
    st.sampled_from([*HOST_PHASES, "ready", "ready", "ready"]),
    st.sampled_from([*RUN_STATES, "running", "running"]),
    st.sampled_from([OLD, NEW]),
    SPECS,
    LABELS,
)
# On one hypervisor a name is there once in a tenant.
YARDS = st.lists(HOSTS, max_size=12, unique_by=lambda h: (h.record.tenant, h.record.name))
UPDATES = st.builds(
    UpdateSpec,
    st.sampled_from(["rolling", "rolling", "on_release", "recreate"]),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(0, 4),
)


def _fleet(
    count: int, names: list[str] | None, spec: HostSpec, labels: dict[str, str], update: UpdateSpec
) -> FleetSpec:
    if names is not None and update.max_unavailable == 0:
        update = replace(update, max_unavailable=1)
    size = {"count": count} if names is None else {"count": len(names), "names": tuple(names)}
    return FleetSpec(
        "ci", "base", host=spec, labels=labels, update=update, replace_on_labels=("a",), **size
    )


NAMES = (
    st.none()
    | st.none()
    | st.lists(st.sampled_from(["a", "b", "c", "ci-2"]), min_size=1, unique=True)
)
FLEETS = st.builds(_fleet, st.integers(0, 8), NAMES, SPECS, LABELS, UPDATES)


def mine(hosts: Iterable[Host]) -> list[Host]:
    return [h for h in hosts if (h.record.tenant, h.record.fleet) == ("default", "ci")]


def planned(
    spec: FleetSpec, hosts: Iterable[Host], unhealthy: dict[str, str] | None = None
) -> Plan:
    """Return the plan; skip a fleet whose names belong to another object."""
    other_names = {
        h.record.name for h in hosts if h.record.tenant == "default" and h.record.fleet != "ci"
    }
    assume(not other_names & set(spec.names))
    return plan_fleet(spec, NEW, hosts, unhealthy=unhealthy)


class Model:
    """The existing hosts. An impossible action fails."""

    def __init__(self, spec: FleetSpec, hosts: Iterable[Host]) -> None:
        self.spec = spec
        self.there = {(h.record.tenant, h.record.name): h for h in hosts}

    def run(self, plan: Plan) -> None:
        for action in plan.actions:
            self.take(action)

    def take(self, action: Action, half: bool = False) -> None:
        """Do one action, or the first half of a replacement."""
        key, spec = (self.spec.tenant, action.name), self.spec
        created_host = host(
            fleet=spec.name, name=action.name, generation=NEW, spec=spec.host, labels=spec.labels
        )
        if action.verb == "create":
            assert key not in self.there, f"{action} comes upon a host of that name"
            self.there[key] = created_host
            return
        now = self.there.pop(key)
        if action.verb == "replace" and not half:
            self.there[key] = created_host
        elif action.verb in ("start", "resume"):
            self.there[key] = Host(now.record, "running")
        elif action.verb == "relabel":
            self.there[key] = replace(now, record=replace(now.record, labels=spec.labels))
        else:
            assert action.verb in ("delete", "replace")

    def worst(self, wave: Iterable[Action]) -> Iterator[tuple[int, int]]:
        """How many there are and how many serve, at the worst moments of a wave."""
        wave = list(wave)
        # Within a wave all goes before anything comes; replacements are side by side.
        for action in wave:
            if action.verb == "delete":
                self.take(action)
        yield self.counted()
        swaps = [a for a in wave if a.verb == "replace"]
        missing = len(swaps)
        total, serving = self.counted()
        yield total - missing, serving - sum(self.there["default", a.name].serving for a in swaps)
        for action in wave:
            if action.verb != "delete":
                self.take(action)
        yield self.counted()

    def counted(self) -> tuple[int, int]:
        """How many hosts the fleet has, and how many of them serve."""
        members = mine(self.there.values())
        return len(members), sum(h.serving for h in members)


def applied(plan: Plan, spec: FleetSpec, hosts: Iterable[Host]) -> list[Host]:
    """Return the hosts after a plan was applied."""
    model = Model(spec, hosts)
    for action in plan.actions:
        model.take(action)
    return list(model.there.values())


@given(FLEETS, YARDS)
def test_one_apply_converges(spec: FleetSpec, hosts: list[Host]) -> None:
    after = mine(applied(planned(spec, hosts), spec, hosts))
    assert len(after) == spec.size
    assert not spec.names or {h.record.name for h in after} == set(spec.names)
    for host_after in after:
        assert host_after.serving
        assert (host_after.record.generation, host_after.record.spec, host_after.record.labels) == (
            NEW,
            spec.host,
            spec.labels,
        )


@given(FLEETS, YARDS)
def test_an_applied_plan_leaves_an_empty_one(spec: FleetSpec, hosts: list[Host]) -> None:
    after = applied(planned(spec, hosts), spec, hosts)
    assert plan_fleet(spec, NEW, after) == Plan()


@given(FLEETS, YARDS, st.integers(0, 30))
def test_whenever_the_controller_dies_one_apply_converges(
    spec: FleetSpec, hosts: list[Host], moment: int
) -> None:
    model = Model(spec, hosts)
    for action in planned(spec, hosts).actions[:moment]:
        model.take(action)
    remaining = list(model.there.values())
    after = applied(plan_fleet(spec, NEW, remaining), spec, remaining)
    assert len(mine(after)) == spec.size
    assert plan_fleet(spec, NEW, after) == Plan()


@given(FLEETS, YARDS)
def test_number_of_hosts_stays_within_surge_and_unavailable(
    spec: FleetSpec, hosts: list[Host]
) -> None:
    if spec.update.strategy == "recreate":
        surge, lacking = 0, spec.size
    else:
        surge, lacking = spec.update.bounds(spec.starts_before_delete)
    model = Model(spec, hosts)
    total, serving = model.counted()
    # A number outside the limits before the run is corrected, and never made worse.
    most, least = max(total, spec.size + surge), min(serving, spec.size - lacking)
    for wave in planned(spec, hosts).waves():
        for hosts_then, up in model.worst(wave):
            assert hosts_then <= most
            assert up >= least
        total, serving = model.counted()
        most, least = (
            max(min(most, total), spec.size + surge),
            min(max(least, serving), spec.size - lacking),
        )


@given(FLEETS, YARDS)
def test_nothing_foreign_is_touched(spec: FleetSpec, hosts: list[Host]) -> None:
    own_names = {h.record.name for h in mine(hosts)}
    plan = planned(spec, hosts)
    created_names = {a.name for a in plan.actions if a.verb == "create"}
    assert {a.name for a in plan.actions} - created_names <= own_names
    after = applied(plan, spec, hosts)
    assert [h for h in hosts if h not in mine(hosts)] == [h for h in after if h not in mine(after)]


@given(FLEETS, YARDS)
def test_no_good_host_is_lost_for_a_worse_one(spec: FleetSpec, hosts: list[Host]) -> None:
    assume(not spec.names)
    plan = planned(spec, hosts)
    first = [
        h
        for h in mine(hosts)
        if h.serving
        and (h.record.generation, h.record.spec) == (NEW, spec.host)
        and h.record.labels.get("a") == spec.labels.get("a")
    ]
    before = {h.record.name: True for h in first}
    lost = [
        a for a in plan.actions if a.verb in ("delete", "replace") and before.pop(a.name, False)
    ]
    assert len(lost) == max(0, len(first) - spec.size)


@given(FLEETS, YARDS)
def test_a_plan_does_not_depend_on_the_order_of_the_listing(
    spec: FleetSpec, hosts: list[Host]
) -> None:
    assert planned(spec, hosts) == planned(spec, list(reversed(hosts)))


@given(FLEETS, YARDS)
def test_each_action_has_a_reason_and_a_diff(spec: FleetSpec, hosts: list[Host]) -> None:
    plan = planned(spec, hosts)
    for action in plan.actions:
        assert action.reason
        assert bool(action.before) == (action.verb != "create")
        assert bool(action.after) == (action.verb != "delete")
        assert action.before != action.after
    diff = plan.diff()
    assert {key.split()[1] for key in {**diff["before"], **diff["after"]}} == {
        a.name for a in plan.actions
    }


@given(FLEETS, YARDS, st.integers(0, 3))
def test_leased_host_is_kept(spec: FleetSpec, hosts: list[Host], room: int) -> None:
    """Whatever is declared; and where there is a limit, no wave is over it but by what
    is leased.
    """
    spec = replace(spec, max=spec.size + room) if room else spec
    leased_uuids = {
        h.record.uuid for h in mine(hosts) if h.serving and h.record.name in ("ci-1", "ci-4", "a")
    }
    hosts = [leased(h) if h.record.uuid in leased_uuids else h for h in hosts]
    other_names = {
        h.record.name for h in hosts if h.record.tenant == "default" and h.record.fleet != "ci"
    }
    assume(not other_names & set(spec.names))
    plan = plan_fleet(spec, NEW, hosts, now=THEN)
    model, most = Model(spec, hosts), max(spec.max, len(leased_uuids), len(mine(hosts)))
    for wave in plan.waves():
        for action in wave:
            model.take(action)
        assert not spec.max or len(mine(model.there.values())) <= most
    after = mine(model.there.values())
    assert leased_uuids <= {h.record.uuid for h in after}
    assert len(after) == max(spec.size, len(leased_uuids))
    assert plan_fleet(spec, NEW, model.there.values(), now=THEN) == Plan()
    ended = plan_fleet(spec, NEW, model.there.values(), now=THEN + 2)
    model.run(ended)
    assert len(mine(model.there.values())) == spec.size
    assert not leased_uuids & {h.record.uuid for h in mine(model.there.values())}


THEN = 1000.0


def leased(host: Host) -> Host:
    lease = Lease("12345678-1234-5678-1234-567812345678", "job", 0.0, THEN + 1, "1f")
    return replace(host, record=replace(host.record, lease=lease))


def told(plan: Plan) -> list[str]:
    """A plan in short, a bar between waves."""
    return " | ".join(" ".join(f"{a.verb} {a.name}" for a in wave) for wave in plan.waves()).split(
        " | "
    )


def old(count: int, **options: Any) -> list[Host]:
    return [host(name=f"ci-{n}", generation=OLD, **options) for n in range(1, count + 1)]


def fleet(
    count: int, strategy: str = "rolling", surge: int | None = None, lacking: int | None = None
) -> FleetSpec:
    return FleetSpec("ci", "base", count=count, update=UpdateSpec(strategy, surge, lacking))


@pytest.mark.parametrize(
    ("spec", "waves"),
    [
        (fleet(2), ["create ci-3", "delete ci-1", "create ci-1", "delete ci-2"]),
        (fleet(2, surge=2), ["create ci-3 create ci-4", "delete ci-1 delete ci-2"]),
        (fleet(2, surge=0), ["delete ci-1", "create ci-1", "delete ci-2", "create ci-2"]),
        (fleet(2, surge=1, lacking=1), ["create ci-3", "delete ci-1 delete ci-2", "create ci-1"]),
        (fleet(2, "recreate"), ["replace ci-1 replace ci-2"]),
        (fleet(2, "on_release"), ["create ci-3", "delete ci-1", "create ci-1", "delete ci-2"]),
        (fleet(1), ["delete ci-1", "create ci-1", "delete ci-2"]),
        (fleet(3), ["create ci-3 create ci-4", "delete ci-1", "create ci-1", "delete ci-2"]),
        (FleetSpec("ci", "base", names=("ci-1", "ci-2")), ["replace ci-1", "replace ci-2"]),
        (
            FleetSpec("ci", "base", names=("ci-1", "b")),
            ["delete ci-2", "create b", "replace ci-1"],
        ),
        (
            FleetSpec("ci", "base", names=("ci-1", "ci-2"), update=UpdateSpec(max_unavailable=2)),
            ["replace ci-1 replace ci-2"],
        ),
    ],
)
def test_two_old_hosts_are_replaced_in_the_documented_order(
    spec: FleetSpec, waves: list[str]
) -> None:
    assert told(plan_fleet(spec, NEW, old(2))) == waves


def test_second_rollout_returns_to_the_first_names() -> None:
    hosts = [host(name="ci-1", generation=OLD), host(name="ci-3", generation=OLD)]
    assert told(plan_fleet(fleet(2), NEW, hosts)) == [
        "create ci-2",
        "delete ci-1",
        "create ci-1",
        "delete ci-3",
    ]


def test_a_fleet_of_one_bound_port_is_replaced_in_its_place() -> None:
    spec = FleetSpec("ci", "base", host=HostSpec(ports=(80,), bind="127.0.0.1"))
    assert told(plan_fleet(spec, NEW, old(1))) == ["delete ci-1", "create ci-1"]


def test_a_port_that_the_old_host_publishes_everywhere_is_freed_first() -> None:
    spec = FleetSpec("ci", "base", host=HostSpec(ports=(80,)))
    current = old(1, spec=HostSpec(ports=(80,), bind="0.0.0.0"))  # noqa: S104
    assert told(plan_fleet(spec, NEW, current)) == ["delete ci-1", "create ci-1"]
    with pytest.raises(InvalidInput, match="max_unavailable is 0"):
        plan_fleet(replace(spec, update=UpdateSpec(max_unavailable=0)), NEW, current)


def test_unhealthy_host_is_replaced_first_after_its_successor_exists() -> None:
    hosts = [host(name=f"ci-{n}", generation=NEW) for n in (1, 2, 3)]
    plan = plan_fleet(fleet(3), NEW, hosts, unhealthy={"ci-2": "Docker does not answer"})
    assert told(plan) == ["create ci-4", "delete ci-2"]
    assert plan.actions[0].reason == "it replaces ci-2: Docker does not answer"
    assert plan.actions[1].reason == "Docker does not answer"
    both = plan_fleet(
        fleet(3), NEW, [*old(2), hosts[2]], unhealthy={"ci-2": "Docker does not answer"}
    )
    assert told(both) == ["create ci-4", "delete ci-2", "create ci-2", "delete ci-1"]


def test_controller_that_reaches_no_host_deletes_none() -> None:
    """Not one goes before a new one was reached."""
    silent = {f"ci-{n}": "no route to host" for n in (1, 2, 3)}
    plan = plan_fleet(
        fleet(3), NEW, [host(name=n, generation=NEW) for n in silent], unhealthy=silent
    )
    assert told(plan)[0] == "create ci-4"


def test_always_policy_replaces_hosts_in_each_run() -> None:
    hosts = [host(name=f"ci-{n}", generation=NEW) for n in (1, 2)]
    plan = plan_fleet(replace(fleet(2), recreate="always"), NEW, hosts)
    assert told(plan) == ["create ci-3", "delete ci-1", "create ci-1", "delete ci-2"]
    assert {a.reason for a in plan.actions if a.verb == "delete"} == {ALWAYS}


def test_labels_that_matter_replace_a_host_and_others_do_not() -> None:
    spec = FleetSpec("ci", "base", labels={"zone": "b", "note": "x"}, replace_on_labels=("zone",))
    assert told(plan_fleet(spec, NEW, [host(generation=NEW, labels={"zone": "b"})])) == [
        "relabel ci-1"
    ]
    plan = plan_fleet(spec, NEW, [host(generation=NEW, labels={"note": "x"})])
    assert [(a.verb, a.reason) for a in plan.actions] == [
        ("create", "it replaces ci-1: label zone changed"),
        ("delete", "label zone changed"),
    ]


def test_declared_name_of_a_foreign_host_is_refused() -> None:
    spec = FleetSpec("ci", "base", names=("a", "b"))
    for hosts, used_names in (([host(name="b", fleet="")], []), ([], ["b"])):
        with pytest.raises(Conflict, match="host b: the name is in use"):
            plan_fleet(spec, NEW, hosts, used_names)


def test_serving_hosts_of_the_generation_are_kept_first() -> None:
    hosts = [
        host("off", name="ci-1", generation=NEW),
        host(name="ci-2", generation=OLD),
        host(name="ci-3", generation=NEW),
        host(name="ci-10", generation=NEW),
    ]
    plan = plan_fleet(FleetSpec("ci", "base", count=2), NEW, hosts)
    assert [(a.verb, a.name) for a in plan.actions] == [("delete", "ci-1"), ("delete", "ci-2")]


def test_a_name_that_a_single_host_has_is_passed_over() -> None:
    hosts = [host(fleet="", name="ci-1"), host(fleet="", name="ci-2", tenant="other")]
    plan = plan_fleet(FleetSpec("ci", "base", count=2), NEW, hosts)
    assert [a.name for a in plan.actions] == ["ci-2", "ci-3"]


def test_a_name_that_something_else_has_is_passed_over() -> None:
    plan = plan_fleet(
        FleetSpec("ci", "base", count=2),
        NEW,
        [host(name="ci-2", phase="creating")],
        ["ci-1", "ci-2"],
    )
    assert [(a.verb, a.name) for a in plan.actions] == [
        ("delete", "ci-2"),
        ("create", "ci-2"),
        ("create", "ci-3"),
    ]


def test_a_name_that_is_freed_may_be_given_in_the_same_plan() -> None:
    plan = plan_fleet(FleetSpec("ci", "base", count=1), NEW, [host(name="ci-1", phase="creating")])
    assert [(a.verb, a.name) for a in plan.actions] == [("delete", "ci-1"), ("create", "ci-1")]


def test_plan_without_a_template_shows_the_future_hosts() -> None:
    plan = plan_fleet(FleetSpec("ci", "base", count=2), UNKNOWN_GENERATION, [])
    assert [a.after["generation"] for a in plan.actions] == [UNKNOWN_GENERATION] * 2


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
def test_a_thousand_hosts_are_planned_in_a_moment(strategy: str) -> None:
    hosts = [host(name=f"ci-{n}", generation=OLD) for n in range(1, 1001)]
    begin = time.process_time()
    plan = plan_fleet(fleet(1000, strategy), NEW, hosts)
    # The promise is one second.
    assert time.process_time() - begin < 0.5
    assert {a.name for a in plan.actions if a.before} == {h.record.name for h in hosts}
    assert len({a.name for a in plan.actions}) <= 1001
