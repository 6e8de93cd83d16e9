# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a yard's files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.providers.libvirt.store import Store


def test_a_relative_directory_is_where_the_controller_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Path("yard/store"))
    monkeypatch.chdir("/")
    assert store.hosts == tmp_path / "yard" / "store" / "hosts"
