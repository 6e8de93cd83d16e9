# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Yards that older code created are listed, planned, rolled and deleted by today's code.

``recorded/schema-N.tar.gz`` contains the state of a simulated hypervisor and its keys, as the last
commit with schema N wrote it (b376502, 7122609, 6988e3b and c56f935; of the present schema the
first one, 6ee7d62). Owner ``old`` has two templates, two pools, three volumes (one of them
attached), three hosts, one lease, and two client certificates, one of them revoked. From schema 3
on, owner ``later`` has a template, an elastic fleet with one host, and a suspended branch of that
host. A new schema adds a file and changes none.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    ImageSpec,
    OperationRefused,
    PoolSpec,
    PoolTerm,
    TemplateSpec,
    TemplateTerm,
    VolumeSpec,
    VolumeTerm,
    VolumeUse,
    Yard,
)
from stockyard.hypervisor.records import SCHEMA
from stockyard.model.host import HostRecord
from stockyard.planning.plan import Action
from stockyard.planning.templates import DECLARATION_CHANGED, GUEST_FILES_CHANGED
from tests.helpers.clocks import FakeClock

FOLDER = Path(__file__).with_name("recorded")
SCHEMAS = range(1, SCHEMA + 1)
# The schemas whose yards have the owner ``later``.
LATER_SCHEMAS = range(3, SCHEMA + 1)
CREATED = 1_800_000_010.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5PyObBkKWPqZLiQHfJ8gdhiGJmJUNt8WluiUp+fbmL me@home"
BOOKWORM = ImageSpec(suite="bookworm")
CI = FleetSpec(
    "ci",
    "base",
    count=2,
    host=HostSpec(
        ports=(8080,),
        authorized_keys=(KEY,),
        pool="gold",
        egress="proxy",
        egress_proxy="proxy.example:3128",
    ),
    labels={"os/name": "debian", "note": 'a "b" – ü'},
)
DB = FleetSpec(
    "db",
    "stopped",
    count=1,
    host=HostSpec(
        fork_mode="full",
        vcpus=2,
        memory_mib=2048,
        volumes=(VolumeUse("{host}-data", size_gib=5, source="snap"),),
    ),
)
STOPPED = TemplateSpec("stopped", image=BOOKWORM, docker="stopped", max_memory_mib=4096)
# The declaration that the yard was created from. Its release was the default then.
DECLARATION = Declaration(
    templates=(TemplateTerm(TemplateSpec("base", image=BOOKWORM)), TemplateTerm(STOPPED)),
    pools=(
        PoolTerm(PoolSpec("all", hosts=20)),
        PoolTerm(PoolSpec("gold", parent="all", memory_mib=65536, memory_overcommit=1.5, vcpus=40)),
    ),
    volumes=(
        VolumeTerm(VolumeSpec("golden", size_gib=4)),
        VolumeTerm(VolumeSpec("snap", source="golden", snapshot=True)),
    ),
    fleets=(FleetTerm(CI), FleetTerm(DB)),
)

# The declaration with another content of both templates.
ADDED = replace(BOOKWORM, packages=("git",))
CHANGED = replace(
    DECLARATION,
    templates=(
        TemplateTerm(TemplateSpec("base", image=ADDED)),
        TemplateTerm(replace(STOPPED, image=ADDED)),
    ),
)


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> int:
    """The schema that the yard was recorded with."""
    return int(request.param)


@pytest.fixture
def folder(tmp_path: Path, schema: int) -> Path:
    """The files of the yard, moved to a directory of the test."""
    with tarfile.open(FOLDER / f"schema-{schema}.tar.gz") as archive:
        archive.extractall(tmp_path)  # noqa: S202  # the archive is part of the tests
    (folder,) = tmp_path.iterdir()
    # The directory that the yard was created in. Its files name it.
    origin = f"/tmp/{folder.name}"  # noqa: S108  # nothing is read or written there
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(origin, str(folder)))
    return folder


@contextmanager
def opened(folder: Path, owner: str) -> Iterator[Yard]:
    """Open the yard of an owner by today's code, ten seconds after it was created."""
    pki_dir, clock = str(folder / "pki"), FakeClock(CREATED)
    uri = f"memory://{folder}/hypervisor"
    with Yard(uri, owner=owner, pki_dir=pki_dir, clock=clock) as yard:
        yield yard


@pytest.fixture
def older_yard(folder: Path) -> Iterator[Yard]:
    """The yard of owner ``old``."""
    with opened(folder, "old") as yard:
        yield yard


@pytest.fixture
def later_yard(folder: Path) -> Iterator[Yard]:
    """The yard of owner ``later``."""
    with opened(folder, "later") as yard:
        yield yard


def hosts(yard: Yard) -> dict[str, HostRecord]:
    return {
        host.record.name: host.record
        for host in yard.context.provider.observe("old").hosts
        if host.serving
    }


def schemas(folder: Path) -> dict[str, int]:
    """Return the schema of each machine's record as it is stored now."""
    lines = (folder / "hypervisor").read_text().splitlines()[1:]
    machines = dict(json.loads(line) for line in lines)
    return {
        name.removeprefix("old.default."): json.loads(machine["record"]).get("schema", 1)
        for name, machine in machines.items()
        if machine
    }


def test_every_schema_has_a_recorded_yard() -> None:
    recorded = {path.name for path in FOLDER.glob("*.tar.gz")}
    assert recorded == {f"schema-{schema}.tar.gz" for schema in SCHEMAS}


def test_records_are_of_the_schema(folder: Path, schema: int) -> None:
    assert set(schemas(folder).values()) == {schema}


def test_everything_of_an_older_yard_is_read(older_yard: Yard) -> None:
    observation = older_yard.context.provider.observe("old")
    volumes = older_yard.context.provider.volumes.observe("old")
    assert (observation.unreadable, volumes.unreadable) == ((), ())
    assert sorted(hosts(older_yard)) == ["ci-1", "ci-2", "db-1"]
    assert sorted(pool.name for pool in observation.pools) == ["all", "gold"]
    assert [volume.name for volume in volumes.volumes] == ["db-1-data", "golden", "snap"]
    assert {template.usable for template in observation.templates} == {True}


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_plan_of_an_older_yard_changes_only_generations_with_the_reason(
    older_yard: Yard, folder: Path, schema: int
) -> None:
    before = files(folder)
    actions = older_yard.apply(DECLARATION, check=True).plan.actions
    builds = {action.name: action.reason for action in actions if action.kind == "template"}
    # Options that were added later are part of the digest of a declaration; the guest files of
    # later schemas can be those of today.
    added = {DECLARATION_CHANGED} if schema in (2, 3) else set()
    assert set(builds.values()) <= {GUEST_FILES_CHANGED} | added
    assert schema > 1 or set(builds) == {"base", "stopped"}
    assert {action.kind for action in actions} <= {"template", "host"}
    check_only_generations_change(older_yard, actions)
    assert files(folder) == before


def test_plan_of_an_older_yard_shows_a_changed_declaration(
    older_yard: Yard, folder: Path, schema: int
) -> None:
    before = files(folder)
    actions = older_yard.apply(CHANGED, check=True).plan.actions
    builds = {action.name: action.reason for action in actions if action.kind == "template"}
    assert builds == dict.fromkeys(("base", "stopped"), DECLARATION_CHANGED)
    assert any(action.kind == "host" for action in actions)
    check_only_generations_change(older_yard, actions)
    assert files(folder) == before


def check_only_generations_change(yard: Yard, actions: Sequence[Action]) -> None:
    """Fleets follow their templates; the leased host stays."""
    other_actions = [action for action in actions if action.kind != "template"]
    assert {action.kind for action in other_actions} <= {"host"}
    assert all("generation changed" in action.reason for action in other_actions)
    (leased,) = (host.name for host in hosts(yard).values() if host.lease)
    assert leased not in {action.name for action in other_actions if action.verb == "delete"}


@pytest.mark.parametrize("schema", [1], indirect=True)
def test_plan_names_the_release_if_only_the_default_changed(older_yard: Yard) -> None:
    declaration = replace(DECLARATION, templates=(TemplateTerm(TemplateSpec("base")),), fleets=())
    (action,) = older_yard.apply(declaration, check=True).plan.actions
    assert action.reason == "its release is trixie, and was bookworm"


def test_fleets_of_an_older_yard_are_as_declared(older_yard: Yard) -> None:
    # Without a new generation of its template, a fleet has nothing to change.
    for spec in (CI, DB):
        assert not older_yard.fleets.apply(spec, check=True).plan.actions


def test_hosts_of_an_older_yard_are_leased_renewed_and_released(
    older_yard: Yard, folder: Path, schema: int
) -> None:
    (lease,) = (host.lease for host in hosts(older_yard).values() if host.lease)
    older_yard.leases.renew(lease.id, "4h")
    held = older_yard.leases.acquire("ci", holder="job 18", duration="1h")
    leases = {host.lease.holder: host for host in hosts(older_yard).values() if host.lease}
    assert sorted(leases) == ["job 17, größe", "job 18"]
    renewed = leases["job 17, größe"].lease
    assert renewed
    assert renewed.until == CREATED + 4 * 3600
    assert Path(held.environment["DOCKER_CERT_PATH"], "key.pem").exists()
    # Changed records are stored in the present schema, the others as they were.
    assert schemas(folder)[leases["job 18"].name] == SCHEMA
    assert schemas(folder)["db-1"] == schema
    older_yard.leases.release(lease.id)
    held.release()
    assert sorted(hosts(older_yard)) == ["db-1"]


def test_host_of_an_older_yard_is_resized_in_place(older_yard: Yard, folder: Path) -> None:
    before = hosts(older_yard)["db-1"]
    larger = replace(DB, host=replace(DB.host, vcpus=4, memory_mib=3072))
    plan = older_yard.fleets.apply(larger).plan
    after = hosts(older_yard)["db-1"]
    assert [(action.verb, action.name) for action in plan.actions] == [("resize", "db-1")]
    assert (after.uuid, after.size.vcpus, after.size.memory_mib) == (before.uuid, 4, 3072)
    assert (after.template_size, after.max_size) == (before.template_size, before.max_size)
    assert schemas(folder)["db-1"] == SCHEMA


def test_older_yard_is_rolled_to_new_generations(older_yard: Yard) -> None:
    old_generations = {host.generation for host in hosts(older_yard).values()}
    older_yard.apply(CHANGED)
    assert not older_yard.apply(CHANGED, check=True).plan.actions
    observation = older_yard.context.provider.observe("old")
    replaced = [host for host in hosts(older_yard).values() if not host.lease]
    assert len(replaced) == 2
    for host in replaced:
        current = observation.template("default", host.template)
        assert current
        assert host.generation == current.record.generation
        assert host.generation not in old_generations
    attached = older_yard.context.provider.volumes.observe("old").find("default", "db-1-data")
    assert attached
    assert attached.attachment
    assert attached.attachment.uuid == hosts(older_yard)["db-1"].uuid


def test_volumes_and_pools_of_an_older_yard_are_changed(older_yard: Yard) -> None:
    older_yard.volumes.apply(VolumeSpec("golden", size_gib=6))
    older_yard.pools.apply(PoolSpec("all", hosts=30))
    volume = older_yard.context.provider.volumes.observe("old").find("default", "golden")
    assert volume
    assert volume.size_gib == 6
    pools = {pool.name: pool for pool in older_yard.context.provider.observe("old").pools}
    assert (pools["all"].spec.hosts, pools["all"].version) == (30, 2)


def test_client_certificates_of_an_older_yard_stay_issued_and_revoked(older_yard: Yard) -> None:
    pki = older_yard.context.pki("default")
    today = older_yard.context.today()
    assert pki.is_issued(pki.directory_of("alice"), today)
    assert not pki.is_issued(pki.directory_of("mallory"), today)
    assert set(pki.revoked(today)) == set(pki.issued("mallory"))
    assert pki.issued("alice")


def test_everything_of_an_older_yard_is_deleted(older_yard: Yard, folder: Path) -> None:
    older_yard.teardown(templates=True, volumes=True)
    observation = older_yard.context.provider.observe("old")
    assert (observation.hosts, observation.templates) == ((), ())
    assert older_yard.context.provider.volumes.observe("old").volumes == ()
    older_yard.reap(grace=0)
    with opened(folder, "later") as later:
        later.teardown(templates=True)
        later.reap(grace=0)
    assert not list((folder / "hypervisor.d" / "disks").iterdir())


WEB = FleetSpec("web", "base", count=1, max=3)
WEB_CHANGED = Declaration(
    templates=(TemplateTerm(TemplateSpec("base", image=ADDED)),), fleets=(FleetTerm(WEB),)
)


@pytest.mark.parametrize("schema", LATER_SCHEMAS, indirect=True)
def test_branch_and_elastic_fleet_of_an_older_yard_are_taken_over(later_yard: Yard) -> None:
    states = {host.name: host.state for host in later_yard.hosts.list()}
    assert states == {"web-1": "running", "child": "suspended"}
    assert not later_yard.fleets.apply(WEB, check=True).plan.actions
    later_yard.hosts.resume("child")
    plan = later_yard.apply(WEB_CHANGED, check=True).plan.actions
    assert ("build", "base") in {(action.verb, action.name) for action in plan}
    assert "child" not in {action.name for action in plan}
    later_yard.apply(WEB_CHANGED)
    # The generation of the branch stays with it.
    observation = later_yard.context.provider.observe("later")
    generations = {host.record.name: host.record.generation for host in observation.hosts}
    (replaced,) = set(generations) - {"child"}
    assert generations["child"] != generations[replaced]
    assert not later_yard.apply(WEB_CHANGED, check=True).plan.actions
    later_yard.hosts.delete("child")
    later_yard.teardown(templates=True)
    assert later_yard.hosts.list() == ()


@pytest.fixture
def future_yard(folder: Path) -> Iterator[Yard]:
    """A yard with one record of a schema that this version does not know."""
    file = folder / "hypervisor"
    first, *lines = file.read_text().splitlines()
    changed = [first]
    for line in lines:
        name, machine = json.loads(line)
        if machine and name == "old.default.ci-1":
            record = {**json.loads(machine["record"]), "schema": SCHEMA + 1, "mood": "sunny"}
            machine = {**machine, "record": json.dumps(record)}
        changed.append(json.dumps([name, machine]))
    file.write_text("\n".join([*changed, ""]))
    with opened(folder, "old") as yard:
        yield yard


@pytest.mark.parametrize("schema", [SCHEMA], indirect=True)
def test_record_of_a_later_schema_is_refused_and_never_changed(
    future_yard: Yard, folder: Path
) -> None:
    def stored() -> str:
        lines = (folder / "hypervisor").read_text().splitlines()[1:]
        machines = dict(json.loads(line) for line in lines)
        return str(machines["old.default.ci-1"])

    before = stored()
    (unreadable,) = future_yard.context.provider.observe("old").unreadable
    assert f"schema {SCHEMA + 1}" in unreadable.reason
    assert "newer stockyard" in unreadable.reason
    assert sorted(hosts(future_yard)) == ["ci-2", "db-1"]
    for change in (future_yard.hosts.delete, future_yard.hosts.restart, future_yard.hosts.suspend):
        with pytest.raises(OperationRefused, match="newer stockyard"):
            change("ci-1")
    with pytest.raises(OperationRefused, match="hosts of the template exist"):
        future_yard.teardown(templates=True, volumes=True)
    # A fleet counts only hosts that it can read, and gives no other host the name.
    future_yard.apply(replace(DECLARATION, prune="yes"))
    assert "ci-1" not in hosts(future_yard)
    future_yard.reap(grace=0)
    assert stored() == before
