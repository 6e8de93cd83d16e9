# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of machines that other controllers delete at the same time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stockyard.errors import NotFound
from stockyard.providers.libvirt import facts, processes
from tests.helpers.samples import host_record


class DeletedDomains:
    """Domains of hosts whose process has not ended yet."""

    def find(self, record: Any) -> Any:
        """Find no domain."""
        raise NotFound(f"{record.title}: the domain does not exist.")


class Store:
    """A store of which only the directory is known."""

    root = Path("store")


def test_the_facts_of_a_deleted_host_have_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = host_record()
    monkeypatch.setattr(processes, "running", lambda: {record.uuid: os.getpid()})
    store: Any = Store()
    domains: Any = DeletedDomains()
    of_host = facts.Facts(store, store, domains).of(record, tmp_path)
    assert (of_host.reports_memory, of_host.memory) == (True, None)
