# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of allowed images holds for those who have the forks, and not for what is put into the
template.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.agent import image_policy, memory_trim, provision, units, warmup
from stockyard.guest.security import authorization
from stockyard.guest.security.authz.body import Denied
from stockyard.guest.security.authz.rules import check
from stockyard.guest.security.authz.server import read_policy
from stockyard.model.security import Policy, SecuritySpec

IMPORT = {"RequestMethod": "POST", "RequestUri": "/v1.41/images/create?fromSrc=-&repo=rehearsal"}
LOAD = {"RequestMethod": "POST", "RequestUri": "/v1.41/images/load?quiet=1"}
BUILD = {"RequestMethod": "POST", "RequestUri": "/v1.41/build?t=app&networkmode=none&version=1"}
POLICIES = [Policy(images=("registry.example/*",)), Policy(by_digest=True), Policy(build=False)]


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the plugin was restarted."""
    references: list[str] = []
    monkeypatch.setattr(image_policy, "_restart", lambda: references.append("restart"))
    return references


@pytest.fixture
def guest(tmp_path: Path) -> Callable[[Policy], Path]:
    """The root of a guest with such a policy."""

    def made(policy: Policy) -> Path:
        settings = SecuritySpec("hostile", policy=policy).settings()
        texts = {image_policy.POLICY: authorization.text(settings), image_policy.BACKUP: ""}
        for path, text in texts.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            if text:
                (tmp_path / path).write_text(text)
        return tmp_path

    return made


def refused(root: Path, request: dict[str, Any]) -> bool:
    try:
        check(read_policy(str(root / image_policy.POLICY)), request)
    except Denied:
        return True
    return False


@pytest.mark.parametrize("policy", POLICIES, ids=["images", "by_digest", "build"])
def test_template_accepts_images_that_its_forks_refuse(
    guest: Callable[[Policy], Path], restarts: list[str], policy: Policy
) -> None:
    root = guest(policy)
    before = [refused(root, request) for request in (IMPORT, LOAD, BUILD)]
    assert any(before)
    text = (root / image_policy.POLICY).read_text()
    assert image_policy.suspend(str(root))
    assert not image_policy.suspend(str(root))
    assert not any(refused(root, request) for request in (IMPORT, LOAD, BUILD))
    assert image_policy.restore(str(root))
    assert not image_policy.restore(str(root))
    assert restarts == ["restart", "restart"]
    assert (root / image_policy.POLICY).read_text() == text
    assert [refused(root, request) for request in (IMPORT, LOAD, BUILD)] == before


def test_other_rules_hold_during_the_preload(
    guest: Callable[[Policy], Path], restarts: list[str]
) -> None:
    root = guest(Policy(mounts=("/srv/data",), by_digest=True))
    image_policy.suspend(str(root))
    policy = read_policy(str(root / image_policy.POLICY))
    assert (policy.mounts, policy.images, policy.by_digest, policy.build) == (
        ("/srv/data",),
        (),
        False,
        True,
    )


def test_policy_without_a_list_is_unchanged(
    guest: Callable[[Policy], Path], restarts: list[str], tmp_path: Path
) -> None:
    assert not image_policy.suspend(str(guest(Policy())))
    assert not image_policy.suspend(str(tmp_path / "empty"))
    assert not image_policy.restore(str(tmp_path))
    assert restarts == []


class Rehearsal:
    """An identity that is rehearsed by doing nothing."""

    def __init__(self, *_settings: Any) -> None:
        self.identify = self.renew_certificate = lambda *_arguments: {"csr": ""}
        self.csr = self.settle = lambda *_arguments: {"csr": ""}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The steps of warm-ups in their order; none of them has an effect."""
    steps: list[str] = []

    def noted(module: Any, name: str, result: Any = None) -> None:
        def note(*_settings: Any, **_named: Any) -> Any:
            steps.append(name)
            return result

        monkeypatch.setattr(module, name, note)

    for module, names in (
        (warmup, ("_until", "_rehearse_front", "_rehearse_container", "_docker")),
        (provision, ("load", "provision")),
        (
            memory_trim,
            ("drop_caches", "reclaim", "forget", "forget_layers", "zero_free_memory"),
        ),
        (units, ("check_sshd", "failures")),
    ):
        for name in names:
            noted(module, name)
    noted(image_policy, "suspend", True)
    noted(image_policy, "restore", True)
    monkeypatch.setattr(warmup, "Identity", Rehearsal)
    monkeypatch.setattr(warmup, "_self_signed", lambda _csr: {})
    monkeypatch.setattr(memory_trim, "little_read_ahead", nullcontext)
    monkeypatch.setattr(shutil, "rmtree", lambda *_settings, **_named: None)
    monkeypatch.setattr(warmup, "REHEARSED", str(tmp_path / "rehearsed"))
    monkeypatch.setattr(warmup, "RUN_LINK", f"{tmp_path}/{{}}")
    for unit in warmup.REHEARSED_UNITS:
        (tmp_path / unit).symlink_to("1")
    return steps


def test_the_order_of_a_warm_up(steps: list[str]) -> None:
    """Images are there before the commands; the policy is back before memory is zeroed, and the
    plugin was asked.
    """
    warmup.warm_up(5.0, docker=True, sparse=True)
    assert steps == [
        "check_sshd",
        "_until",
        "suspend",
        "load",
        "provision",
        "drop_caches",
        "reclaim",
        "_rehearse_front",
        "_rehearse_container",
        "restore",
        "_docker",
        "forget",
        "zero_free_memory",
    ]
    steps.clear()
    warmup.warm_up(5.0, docker=False)
    assert steps == ["check_sshd", "provision"]


def test_a_derived_template_is_not_rehearsed_again(steps: list[str]) -> None:
    warmup.warm_up(5.0, docker=True, sparse=True)
    steps.clear()
    warmup.warm_up(5.0, docker=True, sparse=True, derived=True)
    assert steps[5:] == [
        "forget_layers",
        "restore",
        "_docker",
        "failures",
        "_until",
        "forget",
        "zero_free_memory",
    ]


def test_a_derived_template_with_a_failed_unit_is_refused(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warmup.warm_up(5.0, docker=True)
    monkeypatch.setattr(units, "failures", lambda _units: ["docker.service failed: no space"])
    with pytest.raises(warmup.UnitFailed, match="no space"):
        warmup.warm_up(5.0, docker=True, derived=True)


@pytest.mark.parametrize("unit", warmup.REHEARSED_UNITS)
def test_a_service_that_was_started_again_is_rehearsed_again(
    steps: list[str], tmp_path: Path, unit: str
) -> None:
    warmup.warm_up(5.0, docker=True)
    (tmp_path / unit).unlink()
    (tmp_path / unit).symlink_to("2")
    steps.clear()
    warmup.warm_up(5.0, docker=True, derived=True)
    assert "_rehearse_container" in steps


def test_a_derived_template_that_was_booted_is_rehearsed(steps: list[str]) -> None:
    """The file with the runs of the services is in memory."""
    warmup.warm_up(5.0, docker=True, derived=True)
    assert "_rehearse_container" in steps


def test_a_built_template_is_always_rehearsed(steps: list[str]) -> None:
    for _attempt in range(2):
        steps.clear()
        warmup.warm_up(5.0, docker=True)
        assert "_rehearse_container" in steps
