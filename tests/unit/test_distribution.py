# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The needs of tests, which are known by their names."""

from __future__ import annotations

import pytest

from tests.conftest import LIBVIRT, VSPHERE


@pytest.mark.parametrize(
    ("name", "needs_simulator", "needs_guests"),
    [
        ("tests/unit/model/test_size.py::test_a[vsphere]", False, False),
        ("tests/unit/model/test_size.py::test_a[libvirt-1]", False, False),
        ("tests/contract/test_pools.py::test_a[vsphere]", True, False),
        ("tests/contract/test_pools.py::test_a[1-libvirt]", False, True),
        ("tests/vcsim/test_site.py::test_a", True, False),
        ("tests/integration/test_site.py::test_a", False, False),
    ],
)
def test_unit_test_needs_neither_guests_nor_the_simulator(
    name: str, needs_simulator: bool, needs_guests: bool
) -> None:
    assert bool(VSPHERE.search(name)) is needs_simulator
    assert bool(LIBVIRT.search(name)) is needs_guests
