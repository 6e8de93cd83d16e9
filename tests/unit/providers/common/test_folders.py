# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that cannot be read is not taken for an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import FleetSpec, HostSpec, HypervisorError, PoolSpec, TemplateSpec, Yard
from stockyard.providers.common import folders


def test_names_are_those_of_existing_directories(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert folders.names(tmp_path, "files") == ["a", "b"]
    assert folders.names(tmp_path / "none", "files") == folders.names(tmp_path / "a", "files") == []


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """The pools of a hypervisor, where this user may not look any more."""
    with Yard(f"memory://{tmp_path}/yard.json", pki_dir=str(tmp_path / "pki")) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.pools.apply(PoolSpec("small", hosts=1))
    folder = tmp_path / "yard.json.d" / "pools"
    folder.chmod(0)
    yield tmp_path
    folder.chmod(0o700)


def test_limits_that_cannot_be_read_are_not_forgotten(shut: Path) -> None:
    with Yard(f"memory://{shut}/yard.json", pki_dir=str(shut / "pki")) as yard:
        with pytest.raises(
            HypervisorError, match=r"pools: the pools cannot be read.*Permission denied"
        ):
            yard.hosts.list()
        with pytest.raises(HypervisorError, match="cannot be read"):
            yard.fleets.apply(FleetSpec("web", "base", count=2, host=HostSpec(pool="small")))
