# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as values: names, sizes and paths that are refused, and what has to be done for one."""

from __future__ import annotations

import posixpath
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import (
    FleetSpec,
    HostSpec,
    InvalidInput,
    OperationRefused,
    UpdateSpec,
    VolumeSpec,
    VolumeUse,
)
from stockyard.hypervisor.records import decode_volume, encode
from stockyard.model.observation import VolumeObservation
from stockyard.model.volume import (
    DOCKER_ROOT,
    MOST_GIB,
    PARENTS,
    SYSTEM,
    Attachment,
    VolumeRecord,
    mount_point,
)
from stockyard.planning.fleets import plan_fleet
from stockyard.planning.volumes import plan_removal, plan_volume
from tests.helpers.samples import HOSTILE, host

OWN = "{host}-docker"
HOLDER = str(uuid.uuid4())


def record(**changes: Any) -> VolumeRecord:
    volume = VolumeRecord("stockyard", "default", "data", str(uuid.uuid4()), 10, "ready", 1.0)
    return replace(volume, **changes)


def seen(*records: VolumeRecord) -> VolumeObservation:
    return VolumeObservation(tuple(records))


@pytest.mark.parametrize(
    "name", [*HOSTILE, "{host}{host}", "{host}/x", "{other}-x", "{host.uuid}", "{0}", "{host!r}"]
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        VolumeUse(name)
    for field in ("name", "source", "tenant"):
        wrong: dict[str, Any] = {"name": "data", field: name}
        if name or field != "source":
            with pytest.raises(InvalidInput):
                VolumeSpec(**wrong)


@given(st.text(max_size=80))
def test_a_name_is_of_a_volume_or_refused(name: str) -> None:
    try:
        use = VolumeUse(name)
    except InvalidInput:
        return
    assert set(use.of("web-1")) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_the_volume_of_a_host_has_a_valid_name_or_is_refused(name: str) -> None:
    try:
        assert VolumeUse(OWN).of(name) == f"{name}-docker"
    except InvalidInput:
        assert len(name) + len("-docker") > 63


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.none()))
def test_a_size_is_a_whole_number_of_gib(size: Any) -> None:
    whole = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MOST_GIB
    try:
        VolumeSpec("data", size_gib=size)
        VolumeUse("data", size_gib=size)
        assert whole or size is None
    except InvalidInput:
        assert not whole


@given(st.one_of(st.text(max_size=60), st.from_regex(r"(/[a-z./~-]{0,8}){1,5}", fullmatch=True)))
def test_a_path_is_plain_and_covers_nothing_of_the_hosts(path: str) -> None:
    try:
        mount_point(path)
    except InvalidInput:
        return
    assert posixpath.normpath(path) == path
    assert path.startswith("/")
    assert path.isascii()
    assert path.isprintable()
    assert " " not in path
    assert path not in ("/", *PARENTS)
    assert not any(
        path == system_path or path.startswith(f"{system_path}/") for system_path in SYSTEM
    )


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "data",
        "/data/",
        "//data",
        "/data/../etc",
        "/..",
        "/.",
        "/a/./b",
        "/da ta",
        "/data\n",
        "/data\0",
        "/dätä",
        "/etc",
        "/etc/docker",
        "/usr/local",
        "/var",
        "/var/lib",
        "/var/lib/stockyard/tls",
        "/run/x",
        "/proc/1",
        "/sys/x",
        "/home",
        "/root/x",
        "/" + "a" * 256,
        ("/" + "a" * 250) * 5,
        "/a" * 17,
        "$(id)",
        "/$(id)",
        "/-o",
        "/{host}",
        7,
        None,
    ],
)
def test_paths_that_are_refused(path: Any) -> None:
    with pytest.raises(InvalidInput):
        mount_point(path)


@pytest.mark.parametrize(
    "path",
    [
        DOCKER_ROOT,
        "/data",
        "/data/db_1",
        "/srv/x",
        "/mnt/v.1",
        "/home/me/x",
        "/opt/cache",
        "/srv/" + "a" * 255,
    ],
)
def test_paths_that_are_taken(path: str) -> None:
    assert mount_point(path) == path


@pytest.mark.parametrize(
    "uses",
    [
        (VolumeUse("a", "/data"), VolumeUse("a", "/other")),
        (VolumeUse("a", "/data"), VolumeUse("b", "/data")),
        (VolumeUse("a", "/data"), VolumeUse("b", "/data/in")),
        (VolumeUse("a", "/data/in/deep"), VolumeUse("b", "/data-1"), VolumeUse("c", "/data/in")),
    ],
)
def test_volumes_that_conflict_in_one_host_are_refused(uses: tuple[VolumeUse, ...]) -> None:
    with pytest.raises(InvalidInput, match="volumes"):
        HostSpec(volumes=uses)


def test_a_fleet_of_several_needs_a_volume_for_each() -> None:
    with pytest.raises(InvalidInput, match=r"\{host\}"):
        FleetSpec("web", "docker", count=2, host=HostSpec(volumes=(VolumeUse("shared"),)))
    FleetSpec("web", "docker", count=1, host=HostSpec(volumes=(VolumeUse("shared"),)))
    FleetSpec("web", "docker", count=9, host=HostSpec(volumes=(VolumeUse(OWN),)))


def test_with_volumes_old_hosts_go_before_new_ones_come_under_their_names() -> None:
    spec = FleetSpec(
        "ci",
        "base",
        count=3,
        host=HostSpec(volumes=(VolumeUse(OWN),)),
        update=UpdateSpec(max_unavailable=2, max_surge=1),
    )
    old = [host(name=f"ci-{n}", fleet="ci") for n in (1, 2, 3)]
    plan = plan_fleet(spec, "g2" * 32, old)
    names = {"ci-1", "ci-2", "ci-3"}
    for action in plan.actions:
        if action.verb == "delete":
            names.remove(action.name)
        else:
            assert action.verb == "create"
            assert action.name not in names
            names.add(action.name)
        assert len(names) >= 1
    assert names == {"ci-1", "ci-2", "ci-3"}


def test_surge_with_volumes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_unavailable"):
        FleetSpec(
            "ci",
            "b",
            host=HostSpec(volumes=(VolumeUse(OWN),)),
            update=UpdateSpec(max_unavailable=0),
        )


@given(
    st.builds(
        record,
        size_gib=st.integers(1, MOST_GIB),
        attachment=st.none()
        | st.builds(
            Attachment, st.uuids().map(str), st.just("web-1"), st.just("/data"), st.booleans()
        ),
        filesystem=st.sampled_from(["", "making", "ext4"]),
        snapshot=st.booleans(),
    )
)
def test_record_is_equal_after_encoding_and_decoding(volume: VolumeRecord) -> None:
    assert decode_volume(encode(volume)) == volume
    assert len(volume.serial) == 20


@given(
    st.text(max_size=40)
    | st.sampled_from(["{}", "[]", '{"kind": "host"}', '{"kind": "volume"}', "[" * 9999])
)
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        decode_volume(text)


def test_volume_actions_follow_from_spec_and_record() -> None:
    spec = VolumeSpec("data")
    assert [a.verb for a in plan_volume(spec, seen()).actions] == ["create"]
    assert not plan_volume(spec, seen(record()))
    assert not plan_volume(replace(spec, size_gib=10), seen(record()))
    assert [a.verb for a in plan_volume(replace(spec, size_gib=11), seen(record())).actions] == [
        "resize"
    ]
    for phase in ("creating", "deleting"):
        assert [a.verb for a in plan_volume(spec, seen(record(phase=phase))).actions] == ["create"]
    assert [a.verb for a in plan_volume(spec, seen(record(tenant="other"))).actions] == ["create"]


@pytest.mark.parametrize(
    ("spec", "current"),
    [
        (VolumeSpec("data", size_gib=9), record()),
        (VolumeSpec("data"), record(snapshot=True)),
        (VolumeSpec("data", source="x", snapshot=True), record()),
        (VolumeSpec("data", size_gib=11, source="x", snapshot=True), record(snapshot=True)),
        (VolumeSpec("new", size_gib=9, source="data"), record()),
        (VolumeSpec("new", size_gib=11, source="data", snapshot=True), record()),
    ],
)
def test_impossible_change_of_a_volume_is_refused(spec: VolumeSpec, current: VolumeRecord) -> None:
    with pytest.raises(InvalidInput):
        plan_volume(spec, seen(current))


def test_nonsense_is_refused() -> None:
    for wrong in ({"source": "data"}, {"snapshot": True}):
        with pytest.raises(InvalidInput):
            VolumeSpec("data", **wrong)


def test_a_held_volume_is_not_deleted_and_its_holder_is_named() -> None:
    own_volume = record(attachment=Attachment(HOLDER, "web-1", "/data"))
    for living in ([HOLDER], None):
        with pytest.raises(OperationRefused, match="web-1"):
            plan_removal(own_volume, living)
    assert [a.verb for a in plan_removal(own_volume, ["u2"]).actions] == ["delete"]
    assert not plan_removal(None, [])
