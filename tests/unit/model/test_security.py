# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security as it is declared: what the profiles say, what may be set otherwise, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import ImageSpec, InvalidInput, TemplateSpec, Unsupported
from stockyard.model.security import DEFAULTS, PROFILES, Limits, Policy, SecuritySpec, Settings
from tests.helpers.samples import HOSTILE

SECCOMP = '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}'


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_has_the_settings_of_the_documented_table(profile: str) -> None:
    assert SecuritySpec(profile).settings() == DEFAULTS[profile]


def test_profiles_only_ever_get_tighter() -> None:
    trusted, shared, hostile = (DEFAULTS[name] for name in PROFILES)
    assert (trusted.user_namespaces, shared.user_namespaces, hostile.user_namespaces) == (
        "none",
        "remap",
        "remap",
    )
    assert [s.policy is not None for s in (trusted, shared, hostile)] == [False, False, True]
    assert 0 < hostile.limits.pids < shared.limits.pids
    assert trusted.limits == Limits()


def test_declared_settings_override_the_profile() -> None:
    settings = SecuritySpec(
        "hostile", icc=True, user_namespaces="none", limits={"pids": 7}, audit=False
    ).settings()
    assert (settings.icc, settings.user_namespaces, settings.limits.pids, settings.audit) == (
        True,
        "none",
        7,
        False,
    )
    assert settings.limits.container_pids == DEFAULTS["hostile"].limits.container_pids
    assert SecuritySpec("hostile", authorization=False).settings().policy is None
    assert SecuritySpec("trusted", authorization=True).settings().policy == Policy()


def test_rootless_host_omits_settings_that_need_root() -> None:
    settings = SecuritySpec("hostile", user_namespaces="rootless").settings()
    assert settings.policy is None
    assert (settings.limits.network_mib, settings.limits.disk_percent) == (0, 0)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"profile": "hostile", "user_namespaces": "rootless", "authorization": True},
            "belongs to the user",
        ),
        (
            {"profile": "shared", "user_namespaces": "rootless", "limits": {"network_mib": 3}},
            "ordinary program",
        ),
        ({"user_namespaces": "rootless", "limits": {"disk_percent": 50}}, "home of its user"),
        ({"limits": {"disk_percent": 91}}, "limits.disk_percent"),
        (
            {"profile": "shared", "policy": Policy(mounts=("/srv",))},
            "security.policy is set, but authorization is off, so the policy would",
        ),
        ({"profile": "paranoid"}, "trusted, shared, hostile"),
        ({"user_namespaces": "some"}, "none, remap, rootless"),
        ({"limits": {"pigs": 3}}, "pigs"),
        ({"limits": {"pids": -1}}, "limits.pids"),
        ({"limits": {"memory_percent": 101}}, "limits.memory_percent"),
        ({"limits": {"cpus": "0;reboot"}}, "0,2-3"),
        ({"seccomp": "{}"}, "defaultAction"),
        ({"seccomp": "[" * 100000}, "defaultAction"),
        ({"seccomp": SECCOMP.replace("ERRNO", "ALLOW")}, "allows by default"),
        ({"sysctls": {"a.b\n": "1"}}, "kernel setting"),
        ({"sysctls": {"kernel.x": "1\n2"}}, "printable"),
    ],
)
def test_contradictory_settings_are_refused_with_the_reason(
    spec: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        SecuritySpec(**spec)


def test_a_finished_machine_and_a_late_docker_have_limits() -> None:
    with pytest.raises(InvalidInput, match="finished machine"):
        TemplateSpec("a", image=ImageSpec(source="golden"), security=SecuritySpec("hostile"))
    with pytest.raises(
        InvalidInput, match="security: rootless and docker: stopped exclude each other"
    ):
        TemplateSpec(
            "a", docker="stopped", security=SecuritySpec("shared", user_namespaces="rootless")
        )
    assert (
        TemplateSpec("a", docker="stopped", security=SecuritySpec("hostile")).security.profile
        == "hostile"
    )


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("vtpm", "its seeds are in the frozen state: all instant forks would have the"),
        ("secure_boot", "the hypervisor passes kernel and initrd to the machine, and no"),
    ],
)
def test_unsupported_virtual_hardware_is_refused_with_the_reason(wish: str, reason: str) -> None:
    wished: dict[str, Any] = {wish: True}
    without: dict[str, Any] = {wish: False}
    with pytest.raises(Unsupported, match=reason):
        TemplateSpec("a", **wished)
    assert TemplateSpec("a", **without) == TemplateSpec("a")


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_refused_or_carried(value: str) -> None:
    for make in (
        lambda: SecuritySpec(value),
        lambda: SecuritySpec(user_namespaces=value),
        lambda: SecuritySpec(sysctls={value: "1"}),
        lambda: SecuritySpec(seccomp=value),
        lambda: Limits(cpus=value),
        lambda: Policy(images=(value,)),
        lambda: Policy(mounts=(value,)),
    ):
        try:
            built: Any = make()
        except InvalidInput:
            continue
        if isinstance(built, SecuritySpec):
            lines = [f"{key}={text}" for key, text in (built.sysctls or {}).items()]
            assert [line for line in lines if not line.isprintable()] == []
            assert isinstance(built.settings(), Settings)


@given(
    st.sampled_from(PROFILES),
    st.sampled_from(["none", "remap", "rootless"]),
    st.booleans(),
    st.booleans(),
)
def test_every_combination_is_whole_or_refused(
    profile: str, users: str, icc: bool, policy: bool
) -> None:
    try:
        settings = SecuritySpec(
            profile, user_namespaces=users, icc=icc, authorization=policy
        ).settings()
    except InvalidInput:
        assert users == "rootless"
        assert policy
        return
    assert (settings.user_namespaces, settings.icc, settings.policy is not None) == (
        users,
        icc,
        policy,
    )
