# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that no machine refers to: found, removed, and never mistaken."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import HostRecord
from stockyard.model.observation import SweepResult
from stockyard.model.template import TemplateRecord
from tests.contract.bench import Bench, restore
from tests.contract.conftest import Drafts

HOUR = 3600.0


def gone(swept: SweepResult, record: HostRecord | TemplateRecord) -> list[Path]:
    return [
        Path(removed_file.path)
        for removed_file in swept.removed
        if record.uuid in removed_file.path
    ]


def left(swept: SweepResult, record: HostRecord | TemplateRecord) -> list[str]:
    return [
        skipped_file.reason for skipped_file in swept.skipped if record.uuid in skipped_file.path
    ]


@pytest.fixture
def keeper(provider: Provider) -> None:
    """A hypervisor on which stockyard stores the files of machines."""
    if not provider.capabilities.own_files:
        pytest.skip("this hypervisor removes a machine's files with it (capability own_files)")


@pytest.fixture
def orphan(keeper: None, bench: Bench, drafts: Drafts, deadline: Deadline) -> HostRecord:
    """A host whose machine was removed without stockyard."""
    record = drafts.forked(deadline)
    bench.forget(record)
    return record


def test_files_without_a_machine_are_found_and_removed(
    provider: Provider, orphan: HostRecord
) -> None:
    (path,) = gone(provider.sweep(orphan.owner, 0.0, check=True), orphan)
    assert path.exists()
    assert gone(provider.sweep(orphan.owner, 0.0), orphan) == [path]
    assert not path.exists()
    assert not list(path.parent.glob(f"*{orphan.uuid}*"))
    assert gone(provider.sweep(orphan.owner, 0.0), orphan) == []


def test_young_files_stay(provider: Provider, orphan: HostRecord) -> None:
    swept = provider.sweep(orphan.owner, HOUR)
    assert gone(swept, orphan) == []
    assert "s ago" in left(swept, orphan)[0]
    assert gone(provider.sweep(orphan.owner, 0.0), orphan)


def test_another_owners_files_stay(provider: Provider, orphan: HostRecord) -> None:
    swept = provider.sweep("somebody-else", 0.0)
    assert gone(swept, orphan) == []
    assert left(swept, orphan) == [f"it belongs to another owner ({orphan.owner})"]
    assert gone(provider.sweep(orphan.owner, 0.0), orphan)


def test_files_of_living_objects_are_kept(
    provider: Provider, drafts: Drafts, frozen_template: TemplateRecord, deadline: Deadline
) -> None:
    record = drafts.forked(deadline)
    swept = provider.sweep(record.owner, 0.0)
    for remaining_record in (record, frozen_template):
        assert gone(swept, remaining_record) == []
        assert left(swept, remaining_record) == []
    assert frozen_template.uuid in [
        t.record.uuid for t in provider.observe(record.owner).templates if t.usable
    ]


def test_files_of_unreadable_objects_are_kept(
    keeper: None,
    bench: Bench,
    provider: Provider,
    drafts: Drafts,
    frozen_template: TemplateRecord,
    deadline: Deadline,
) -> None:
    record = drafts.forked(deadline)
    (where,) = {Path(str(v)) for v in [_files(provider, record)]}
    bench.corrupt(record, "not JSON")
    try:
        swept = provider.sweep(record.owner, 0.0)
        assert gone(swept, record) == []
        assert gone(swept, frozen_template) == []
        assert where.exists()
    finally:
        restore(bench, record)


def test_a_lock_that_is_held_stays(provider: Provider, second: Provider) -> None:
    with second.exclusive("contract.sweep.held", Deadline(5)):
        swept = provider.sweep("contract", 0.0)
        assert not [
            removed_file
            for removed_file in swept.removed
            if "contract.sweep.held" in removed_file.path
        ]
        assert not provider_can_have(provider)
    assert provider_can_have(provider)


def provider_can_have(provider: Provider) -> bool:
    from stockyard.errors import Busy

    try:
        with provider.exclusive("contract.sweep.held", Deadline(0.1)):
            return True
    except Busy:
        return False


def _files(provider: Provider, record: HostRecord) -> Path:
    facts = provider.facts(record)
    return (
        Path(facts.console_log).parent
        if facts.console_log
        else Path(facts.storage) / "disks" / record.uuid
    )
