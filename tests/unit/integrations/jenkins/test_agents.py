# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's nodes over the memory hypervisor and the stand-in for Jenkins."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockyard import FleetSpec, Result, UpdateSpec, Yard
from stockyard.errors import (
    Busy,
    Conflict,
    ControllerError,
    InvalidInput,
    NotFound,
    StockyardError,
    Unsupported,
)
from stockyard.integrations.jenkins import Agents, AgentSpec, Controller, config
from stockyard.integrations.jenkins.mark import mark_of
from stockyard.integrations.jenkins.node import DRAINED, USED, Node
from stockyard.integrations.jenkins.node_info import NodeInfo
from stockyard.integrations.jenkins.plan import NEW, Scope, belonging, plan
from stockyard.model.lease import Lease
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import host
from tests.helpers.values import present
from tests.jenkins.controller import TOKEN, USER, Jenkins, serving

from .conftest import FLEET, Make


def does(result: Result[NodeInfo]) -> list[str]:
    return [f"{a.verb} {a.kind} {a.name}" for a in result.plan.actions]


def nodes(yard: Yard, fleet: str = "ci") -> list[str]:
    """Return the expected names of a fleet's nodes."""
    return sorted(f"{h.name}-{h.uuid[:8]}" for h in yard.hosts.list(fleet=fleet))


def node_of(yard: Yard, name: str) -> str:
    return next(n for n in nodes(yard) if n.startswith(f"{name}-"))


def test_every_host_gets_a_node_and_a_second_run_changes_nothing(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    dry = agents().converge(60, check=True)
    assert jenkins.names() == []
    assert not any(r.startswith("POST") for r in jenkins.requests)
    assert does(dry) == [f"create node {name}" for name in nodes(yard)]
    assert dry.plan.diff()["after"][f"node {nodes(yard)[0]}"]["launcher"]["class"] == config.SSH
    first_plan = agents().converge(60)
    assert does(first_plan) == does(dry)
    assert jenkins.names() == nodes(yard) == [o.name for o in first_plan.objects]
    assert all(o.online and o.labels == ("docker",) for o in first_plan.objects)
    assert does(agents().converge(60)) == []


def test_a_fleet_of_three_one_rebuilt_while_another_builds(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    """The acceptance of the whole: at the end nodes and hosts are equal, and the build never
    noticed.
    """
    agents().converge(60)
    build = jenkins.build("docker")
    other_host = next(
        h.name for h in yard.hosts.list(fleet="ci") if node_of(yard, h.name) != build.node
    )
    old = node_of(yard, other_host)
    agents().drain(60, 5, only=[other_host])
    assert jenkins.computers[old].held == DRAINED
    yard.hosts.replace(other_host)
    second_plan = does(agents().converge(60))
    assert second_plan == [f"create node {node_of(yard, other_host)}", f"delete node {old}"]
    assert jenkins.names() == nodes(yard)
    assert not build.is_done
    assert jenkins.computers[build.node].builds == [build]
    jenkins.finish(build)
    assert does(agents().converge(60)) == []


def test_node_of_a_deleted_host_is_removed(agents: Make, yard: Yard, jenkins: Jenkins) -> None:
    agents().converge(60)
    former_node = node_of(yard, "ci-3")
    yard.fleets.apply(replace(FLEET, count=2))
    assert does(agents().converge(60)) == [f"delete node {former_node}"]
    assert jenkins.names() == nodes(yard)


def test_only_nodes_that_carry_our_mark_are_touched(
    agents: Make, yard: Yard, jenkins: Jenkins, controller: Controller
) -> None:
    agents().converge(60)
    own_config = {
        **config.desired_config(
            agents().spec, yard.context.provider.observe("stockyard").hosts[0].record
        )
    }
    unreadable = {
        "by-hand": "made by hand",
        "copied": own_config["description"],
        "damaged": "stockyard:{",
        "other-1-00000000": own_config["description"].replace(
            '"owner":"stockyard"', '"owner":"else"'
        ),
    }
    for name, description in unreadable.items():
        controller.create(name, config.form(name, {**own_config, "description": description}))
    before = len(jenkins.requests)
    yard.fleets.apply(replace(FLEET, count=0))
    assert len(does(agents().converge(60))) == 3
    assert jenkins.names() == sorted(unreadable)
    assert not any(f"/{name}/" in r for name in unreadable for r in jenkins.requests[before:])
    assert {agent.name for agent in agents().skipped()} == {"copied", "damaged", "other-1-00000000"}


def test_node_of_another_owner_is_never_touched(
    agents: Make, yard: Yard, jenkins: Jenkins, controller: Controller
) -> None:
    """Its name and mark fit together, and its tenant and fleet are the same."""
    agents().converge(60)
    record = yard.context.provider.observe("stockyard").hosts[0].record
    own_config = config.desired_config(agents().spec, record)
    uuid = "0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"
    mark = replace(mark_of(record, agents().spec.place), owner="else", uuid=uuid)
    described = {**own_config, "description": mark.description}
    controller.create(mark.node, config.form(mark.node, described))
    before = len(jenkins.requests)
    assert does(agents().converge(60)) == []
    yard.fleets.apply(replace(FLEET, count=0))
    assert len(does(agents().converge(60))) == 3
    agents().remove(60, 5)
    assert jenkins.names() == [mark.node]
    assert not any(f"/{mark.node}/" in request for request in jenkins.requests[before:])
    assert agents().skipped() == ()


@pytest.mark.parametrize(
    ("idle", "held", "expected"),
    [(False, False, ["hold"]), (False, True, []), (True, False, ["delete"])],
)
@pytest.mark.parametrize("one_build", [False, True])
def test_busy_node_of_a_leased_host_is_held_and_not_removed(
    idle: bool, held: bool, expected: list[str], one_build: bool
) -> None:
    lease = Lease("0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", "me", 1.0, 2.0, "3f")
    leased = host(lease=lease)
    mark = mark_of(leased.record, "")
    node = Node(mark.node, idle=idle, held=held, mark=mark)
    spec = AgentSpec("ci", launcher="inbound", one_build=one_build)
    todo = plan(spec, {leased.record.uuid: node}, [leased], {}, 2.0, Scope())
    assert [action.verb for action in todo.actions] == expected


def test_on_a_wrong_hypervisor_no_node_is_removed(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    agents().converge(60)
    yard.fleets.apply(replace(FLEET, count=0))
    assert does(agents(place="elsewhere").converge(60)) == []
    assert len(jenkins.names()) == 3


def test_a_hypervisor_that_does_not_answer_costs_no_node(
    agents: Make, jenkins: Jenkins, hypervisor: FaultyProvider
) -> None:
    agents().converge(60)
    hypervisor.fail("observe", Busy("no answer"))
    with pytest.raises(Busy):
        agents().converge(60)
    assert len(jenkins.names()) == 3


def test_manual_change_of_a_node_is_reverted(agents: Make, yard: Yard, jenkins: Jenkins) -> None:
    agents().converge(60)
    name = nodes(yard)[0]
    xml = jenkins.computers[name].xml
    xml.find("numExecutors").text = "9"  # type: ignore[union-attr]
    xml.find("launcher/port").text = "2200"  # type: ignore[union-attr]
    dry = agents().converge(60, check=True)
    assert dry.plan.diff()["before"][f"node {name}"]["executors"] == "9"
    assert does(agents().converge(60)) == [f"update node {name}"]
    assert does(agents(labels=("docker", "new")).converge(60)) == [
        f"update node {n}" for n in nodes(yard)
    ]
    assert does(agents(labels=("new", "docker")).converge(60)) == []


def test_drained_node_returns_if_its_host_is_kept(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    agents().converge(60)
    assert len(does(agents().drain(60, 5))) == 3
    assert does(agents().drain(60, 5)) == []
    assert all(c.held == DRAINED for c in jenkins.computers.values())
    assert does(agents().converge(60)) == [f"resume node {n}" for n in nodes(yard)]
    assert all(c.held is None for c in jenkins.computers.values())


def test_node_held_by_another_reason_stays_held(
    agents: Make, yard: Yard, jenkins: Jenkins, controller: Controller
) -> None:
    agents().converge(60)
    name = nodes(yard)[0]
    controller.hold(name, "a broken fan")
    agents().drain(60, 5)
    agents().converge(60)
    assert jenkins.computers[name].held == "a broken fan"


def test_draining_waits_for_builds_until_its_deadline(
    agents: Make, yard: Yard, jenkins: Jenkins, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents().converge(60)
    build = jenkins.build("docker")
    name = next(h.name for h in yard.hosts.list() if node_of(yard, h.name) == build.node)
    agents().drain(600, 5, only=[name])
    assert sum(clock.slept[-5:]) == pytest.approx(5)
    assert jenkins.computers[build.node].builds == [build]
    waiting = jenkins.build("docker")
    assert waiting.node not in ("", build.node)
    timer = threading.Timer(0.2, jenkins.finish, [build])
    timer.start()
    monkeypatch.setattr(clock, "sleep", lambda _seconds: time.sleep(0.05))
    agents().drain(600, 500, only=[name])
    assert build.is_done
    timer.join()


def test_missing_node_cannot_be_drained(agents: Make) -> None:
    agents().converge(60)
    with pytest.raises(NotFound, match="ci-9"):
        agents().drain(60, 5, only=["ci-1", "ci-9"])


def test_nodes_are_deleted_and_hosts_are_kept(agents: Make, yard: Yard, jenkins: Jenkins) -> None:
    agents().converge(60)
    assert does(agents().remove(60, 5, check=True)) == does(agents().remove(60, 5))
    assert jenkins.names() == []
    assert does(agents().remove(60, 5)) == []
    assert len(yard.hosts.list(fleet="ci")) == 3
    assert {o.reason for o in agents().nodes()} == {"the host has no node"}


def test_a_host_is_destroyed_after_its_one_build_and_replaced(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    once = agents(one_build=True)
    once.converge(60)
    build = jenkins.build("docker")
    assert does(once.converge(60)) == [f"hold node {build.node}"]
    assert does(once.converge(60)) == []
    second = jenkins.build("docker")
    assert second.node != build.node
    jenkins.finish(build)
    used = build.node.rpartition("-")[0]
    assert does(once.converge(60)) == [
        f"hold node {second.node}",
        f"delete host {used}",
        f"delete node {build.node}",
    ]
    assert used not in {h.name for h in yard.hosts.list()}
    yard.fleets.apply(FLEET)
    assert len(does(once.converge(60))) == 1
    assert jenkins.names() == nodes(yard)
    jenkins.finish(second)


def test_interruption_between_host_and_node_leaves_no_building_node(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    once = agents(one_build=True)
    once.converge(60)
    build = jenkins.build("docker")
    once.converge(60)
    jenkins.finish(build)
    jenkins.broken["POST .*/doDelete"] = (500, "killed")
    with pytest.raises(ControllerError):
        once.converge(60)
    assert jenkins.computers[build.node].held == USED
    assert jenkins.build("docker").node != build.node
    jenkins.broken.clear()
    assert f"delete node {build.node}" in does(once.converge(60))


def test_watch_holds_a_node_during_its_build(
    agents: Make, yard: Yard, jenkins: Jenkins, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, slept, builds = agents(one_build=True), clock.sleep, []
    once.converge(60)
    clock.slept.clear()

    def sleep(seconds: float) -> None:
        builds.append(jenkins.build("docker"))
        slept(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    watch_plan = once.converge(60, watch=2, scope=Scope(register=False, collect=False))
    # The second build came after the last look.
    assert does(watch_plan) == [f"hold node {builds[0].node}"]
    assert sum(clock.slept) == pytest.approx(2)
    assert builds[0].node != builds[1].node


@pytest.mark.parametrize("options", [{"lost_hosts": "replace"}, {"one_build": True}])
def test_a_host_that_lost_its_node_is_destroyed_when_asked(
    agents: Make,
    yard: Yard,
    jenkins: Jenkins,
    controller: Controller,
    clock: FakeClock,
    options: dict[str, object],
) -> None:
    declared = agents(**options)
    declared.converge(60)
    controller.delete(node_of(yard, "ci-2"))
    assert does(declared.converge(60, check=True)) == [f"create node {node_of(yard, 'ci-2')}"]
    clock.time += NEW + 60
    assert does(agents().converge(60, check=True)) == [f"create node {node_of(yard, 'ci-2')}"]
    assert does(declared.converge(60)) == ["delete host ci-2"]
    assert [h.name for h in yard.hosts.list(fleet="ci")] == ["ci-1", "ci-3"]


def test_a_leased_host_is_its_holders(agents: Make, yard: Yard, jenkins: Jenkins) -> None:
    agents().converge(60)
    lease = yard.leases.acquire("ci", holder="me")
    name = node_of(yard, lease.host)
    assert does(agents().converge(60)) == [f"delete node {name}"]
    assert does(agents().converge(60)) == []


def test_host_leased_in_between_is_not_destroyed(
    agents: Make, yard: Yard, jenkins: Jenkins, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = agents(one_build=True)
    once.converge(60)
    build = jenkins.build("docker")
    once.converge(60)
    jenkins.finish(build)
    used = build.node.rpartition("-")[0]
    hosts = once._hosts()
    while (lease := yard.leases.acquire("ci", holder="me")).host != used:
        pass
    monkeypatch.setattr(once, "_hosts", lambda: hosts)
    once.converge(60)
    assert used in {h.name for h in yard.hosts.list()}
    assert lease.host == used


def test_while_another_is_at_work_on_the_fleet_the_node_of_a_host_stays(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    once = agents(one_build=True)
    once.converge(60)
    build = jenkins.build("docker")
    once.converge(60)
    jenkins.finish(build)
    ctx = yard.context
    with (
        ctx.provider.exclusive(ctx.lock_name("fleet", "default", "ci"), ctx.deadline(1)),
        pytest.raises(Busy),
    ):
        once.converge(60)
    assert build.node in jenkins.names()
    once.converge(60)
    assert build.node not in jenkins.names()


def test_missing_jenkins_plugin_is_named(yard: Yard) -> None:
    yard.fleets.apply(replace(FLEET, count=1))
    with serving(plugins=False) as jenkins:
        controller = Controller(jenkins.url, USER, TOKEN)
        with pytest.raises(Unsupported, match="ssh-slaves"):
            Agents(yard.context, controller, AgentSpec("ci", credentials_id="key")).converge(60)
        inbound = Agents(yard.context, controller, AgentSpec("ci", launcher="inbound"))
        inbound.converge(60)
        (node,) = inbound.nodes(secrets=True)
        assert not node.online
        assert jenkins.connect(node.name, present(node.secret))
        assert inbound.nodes()[0].online


def test_secret_of_a_deleted_host_is_useless(
    yard: Yard, controller: Controller, jenkins: Jenkins
) -> None:
    yard.fleets.apply(replace(FLEET, count=1))
    inbound = Agents(yard.context, controller, AgentSpec("ci", launcher="inbound"))
    inbound.converge(60)
    (old,) = inbound.nodes(secrets=True)
    yard.hosts.replace("ci-1")
    inbound.converge(60)
    (new,) = inbound.nodes(secrets=True)
    assert new.host == old.host
    assert not jenkins.connect(old.name, present(old.secret))
    assert not jenkins.connect(new.name, present(old.secret))
    assert jenkins.connect(new.name, present(new.secret))


def test_failure_of_one_node_does_not_stop_the_others(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    first = nodes(yard)[0]
    jenkins.broken[f"POST /computer/{first}/config.xml"] = (500, "no")
    with pytest.raises(ControllerError, match="with status 500"):
        agents().converge(60)
    assert len(jenkins.names()) == 3
    jenkins.broken.clear()
    # It is incomplete: inbound, and with stockyard's mark.
    assert does(agents().converge(60)) == [f"update node {first}"]
    jenkins.broken["POST .*/doDelete"] = (500, "no")
    with pytest.raises(StockyardError, match="3 steps failed"):
        agents().remove(60, 0)


def test_two_runs_at_once_register_each_node_once(
    agents: Make, yard: Yard, jenkins: Jenkins
) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            agents().converge(60)
        except StockyardError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert jenkins.names() == nodes(yard)
    assert does(agents().converge(60)) == []


def test_a_strangers_node_of_our_name_is_a_conflict(
    agents: Make, yard: Yard, jenkins: Jenkins, controller: Controller
) -> None:
    name = nodes(yard)[0]
    desired = config.desired_config(
        agents().spec, yard.context.provider.observe("stockyard").hosts[0].record
    )
    controller.create(name, config.form(name, {**desired, "description": "mine"}))
    with pytest.raises(
        Conflict, match="the controller has a node of this name without a mark of stockyard"
    ):
        agents().converge(60)
    assert jenkins.computers[name].text("description") == "mine"


def test_rolling_update_drains_each_node_before_its_host_is_deleted(
    agents: Make, yard: Yard, jenkins: Jenkins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console command as the fleet's hook, as the page on Jenkins has it."""
    import sys
    from pathlib import Path

    sdk = Path(__file__).parents[4] / "plugins" / "module_utils"
    agents().converge(60)
    build = jenkins.build("docker")
    for name, value in {
        "JENKINS_URL": jenkins.url,
        "JENKINS_USER_ID": USER,
        "JENKINS_API_TOKEN": TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(sdk))
    old = nodes(yard)
    hook = (sys.executable, "-m", "stockyard.cli.main", "jenkins", "drain", "--grace", "1s")
    yard.fleets.apply(
        FleetSpec("ci", "base", count=3, recreate="always", update=UpdateSpec(hook=hook))
    )
    assert {jenkins.computers[n].held for n in old} == {DRAINED}
    assert not build.is_done
    agents().converge(60)
    assert jenkins.names() == nodes(yard) + [build.node] * (build.node in jenkins.names())
    assert not set(nodes(yard)) & set(old)


STATES = st.sampled_from(["ready", "draining", "creating", "deleting"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            STATES, st.sampled_from(["running", "off"]), st.booleans(), st.booleans(), st.booleans()
        ),
        max_size=6,
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_plan_never_touches_a_building_node(
    shape: list[tuple[str, str, bool, bool, bool]], one_build: bool, register: bool, collect: bool
) -> None:
    """Whatever is there: no host goes whose node builds, none without collect, and no node whose
    host is at work.
    """
    spec = AgentSpec("ci", launcher="inbound", one_build=one_build)
    hosts = [
        host(state, name=f"ci-{n}", phase=phase) for n, (phase, state, *_more) in enumerate(shape)
    ]
    nodes_by_uuid = {
        h.record.uuid: Node(
            mark_of(h.record, "").node,
            idle=idle,
            held=held,
            reason=USED if held else "",
            mark=mark_of(h.record, ""),
        )
        for h, (_a, _b, has, idle, held) in zip(hosts, shape, strict=True)
        if has
    }
    whole = belonging(spec, "stockyard", nodes_by_uuid.values())
    assert whole == nodes_by_uuid
    todo = plan(spec, whole, hosts, {}, 2.0, Scope(register, collect))
    names = {h.record.name: h for h in hosts}
    for action in todo.actions:
        if action.kind == "host":
            node = nodes_by_uuid[names[action.name].record.uuid]
            assert collect
            assert one_build
            assert node.idle
            assert node.out_of_service
        elif action.verb in ("create", "update", "resume"):
            assert register
        elif action.verb == "delete":
            assert next(n for n in nodes_by_uuid.values() if n.name == action.name).idle


def test_command_names_missing_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockyard.cli.main import main

    for name in (
        "JENKINS_URL",
        "STOCKYARD_OWNER",
        "STOCKYARD_HOST",
        "STOCKYARD_FLEET",
        "STOCKYARD_TENANT",
    ):
        monkeypatch.delenv(name, raising=False)
    assert main(["jenkins", "drain", "--host", "ci-1"]) == 2
    assert "--owner, --tenant, --fleet, --url is not set" in capsys.readouterr().err
    line = [
        "jenkins",
        "drain",
        "--owner=o",
        "--tenant=t",
        "--fleet=f",
        "--host=h",
        "--url=http://x",
    ]
    assert main([*line, "--token-file=/nowhere"]) == 2
    assert "token cannot be read" in capsys.readouterr().err


def test_nonsense_is_refused_before_anything_is_asked(jenkins: Jenkins) -> None:
    with pytest.raises(InvalidInput):
        Controller(jenkins.url, "a\nb", "t")
    assert jenkins.requests == []
