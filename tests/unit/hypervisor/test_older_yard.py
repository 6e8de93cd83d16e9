# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard that commit b376502 created is opened by today's code.

``recorded/schema-1.tar.gz`` contains the state of its simulated hypervisor and its keys: two
templates, two pools, three volumes (one of them attached), three hosts, one lease, and two client
certificates, one of them revoked.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    ImageSpec,
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
from stockyard.planning.templates import GUEST_FILES_CHANGED
from tests.helpers.clocks import FakeClock

ARCHIVE = Path(__file__).with_name("recorded") / "schema-1.tar.gz"
# The directory that the yard was created in. Its files name it.
ORIGIN = "/tmp/yard-of-b376502"  # noqa: S108  # nothing is read or written there
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the yard, moved to a directory of the test."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)  # noqa: S202  # the archive is part of the tests
    folder = tmp_path / Path(ORIGIN).name
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(ORIGIN, str(folder)))
    return folder


@pytest.fixture
def older_yard(folder: Path) -> Iterator[Yard]:
    """The yard, opened by today's code ten seconds after it was created."""
    with Yard(
        f"memory://{folder}/hypervisor",
        owner="old",
        pki_dir=str(folder / "pki"),
        clock=FakeClock(CREATED),
    ) as yard:
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


def test_everything_of_an_older_yard_is_read(older_yard: Yard) -> None:
    observation = older_yard.context.provider.observe("old")
    volumes = older_yard.context.provider.volumes.observe("old")
    assert (observation.unreadable, volumes.unreadable) == ((), ())
    assert sorted(hosts(older_yard)) == ["ci-1", "ci-2", "db-1"]
    assert sorted(pool.name for pool in observation.pools) == ["all", "gold"]
    assert [volume.name for volume in volumes.volumes] == ["db-1-data", "golden", "snap"]
    assert {template.usable for template in observation.templates} == {True}


def test_plan_of_an_older_yard_changes_only_generations_with_the_reason(
    older_yard: Yard, folder: Path
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    actions = older_yard.apply(DECLARATION, check=True).plan.actions
    builds = {action.name: action.reason for action in actions if action.kind == "template"}
    assert builds == {"base": GUEST_FILES_CHANGED, "stopped": GUEST_FILES_CHANGED}
    # Fleets follow their templates; the leased host stays.
    other_actions = [action for action in actions if action.kind != "template"]
    assert {action.kind for action in other_actions} == {"host"}
    assert all("generation changed" in action.reason for action in other_actions)
    (leased,) = (host.name for host in hosts(older_yard).values() if host.lease)
    assert leased not in {action.name for action in other_actions if action.verb == "delete"}
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path for path in after if path.suffix != ".lock"} >= set(before)
    assert all(after[path] == before[path] for path in before)


def test_plan_names_the_release_if_only_the_default_changed(older_yard: Yard) -> None:
    declaration = replace(DECLARATION, templates=(TemplateTerm(TemplateSpec("base")),), fleets=())
    (action,) = older_yard.apply(declaration, check=True).plan.actions
    assert action.reason == "its release is trixie, and was bookworm"


def test_fleets_of_an_older_yard_are_as_declared(older_yard: Yard) -> None:
    # Without a new generation of its template, a fleet has nothing to change.
    for spec in (CI, DB):
        assert not older_yard.fleets.apply(spec, check=True).plan.actions


def test_hosts_of_an_older_yard_are_leased_renewed_and_released(
    older_yard: Yard, folder: Path
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
    assert schemas(folder)["db-1"] == 1
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


def test_older_yard_is_converged_to_new_generations(older_yard: Yard, folder: Path) -> None:
    older_yard.apply(DECLARATION)
    assert not older_yard.apply(DECLARATION, check=True).plan.actions
    observation = older_yard.context.provider.observe("old")
    current = {template.record.name: template.record for template in observation.templates}
    replaced = [host for host in hosts(older_yard).values() if not host.lease]
    assert {host.generation for host in replaced} == {
        record.generation for record in current.values() if record.options
    }
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
    assert not list((folder / "hypervisor.d" / "disks").iterdir())
