# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Platforms: the differences that prevent a resume, and those that are only shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import Cpu, InvalidInput, Platform
from stockyard.model.platform import Drift, compare, mismatch

FROZEN = Platform(
    "7.2.22", "pc-q35-7.2", "kvm", "Skylake-Server", ("!hle", "ssbd"), "6.1.0-40", "0x2007006"
)


@pytest.mark.parametrize(
    ("changes", "fact", "prevents"),
    [
        ({"emulator": "7.2.9"}, "emulator", True),
        ({"emulator": "10.0.7"}, "emulator", False),
        ({"machine": ""}, "machine", True),
        ({"accelerator": "tcg"}, "accelerator", True),
        ({"cpu_model": "EPYC"}, "cpu_model", True),
        ({"cpu_features": ("ssbd",)}, "cpu_features", True),
        ({"cpu_features": ("!hle", "ssbd", "vaes")}, "cpu_features", True),
        ({"kernel": "6.1.0-41"}, "kernel", False),
        ({"microcode": "0x2007007"}, "microcode", False),
    ],
)
def test_difference_is_shown_and_prevents_instant_forks_if_memory_depends_on_it(
    changes: dict[str, Any], fact: str, prevents: bool
) -> None:
    drift = compare(FROZEN, replace(FROZEN, **changes))
    assert [(item.fact, item.prevents_instant_forks) for item in drift] == [(fact, prevents)]
    assert bool(mismatch(drift)) is prevents


def test_equal_or_unknown_platforms_have_no_differences() -> None:
    assert compare(FROZEN, FROZEN) == ()
    assert compare(None, FROZEN) == ()
    assert compare(FROZEN, None) == ()
    unknown = Platform("7.2.22", "pc-q35-7.2", "kvm")
    assert compare(unknown, FROZEN) == ()
    assert compare(FROZEN, unknown) == ()


def test_features_in_a_message_are_those_of_one_side_only() -> None:
    current = replace(FROZEN, cpu_features=("ssbd", "vaes"))
    (drift,) = compare(FROZEN, current)
    assert drift == Drift("cpu_features", "!hle", "vaes", True)
    assert str(drift) == (
        "CPU features: !hle frozen, and not on the hypervisor, vaes on the hypervisor, and not "
        "frozen"
    )
    many = replace(FROZEN, cpu_features=tuple(f"f{number}" for number in range(10)))
    assert "f7 and 2 more" in mismatch(compare(many, replace(many, cpu_features=())))


def test_declared_model_is_compared_without_the_features_of_the_processor() -> None:
    frozen = replace(FROZEN, cpu_model="Nehalem", cpu_features=())
    assert compare(frozen, frozen, has_named_model=True) == ()
    (drift,) = compare(frozen, replace(frozen, cpu_model=""), has_named_model=True)
    assert str(drift) == "CPU model Nehalem was frozen, and the hypervisor does not have it"
    assert drift.prevents_instant_forks


@pytest.mark.parametrize("model", ["a b", "<x/>", "a\n", "-x", "a" * 64])
def test_model_that_is_no_name_is_refused(model: str) -> None:
    with pytest.raises(InvalidInput, match="CPU model"):
        Cpu(model)
