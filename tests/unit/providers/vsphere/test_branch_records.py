# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Branches in the register: each stays until it has neither hosts nor a living controller."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stockyard import OperationRefused
from stockyard.hypervisor.records import encode
from stockyard.model.branch import BranchRecord, branch_of
from stockyard.model.host import HostRecord
from stockyard.providers.vsphere import branch_records
from stockyard.providers.vsphere.locks import Entry, key_of, write
from stockyard.providers.vsphere.records import FORMAT
from stockyard.providers.vsphere.register import Values
from stockyard.providers.vsphere.reservations import BRANCH, HOST, MachineIndex
from tests.helpers.samples import host_record, template_record

TEMPLATE = template_record()
PARENT = host_record()
NOW = 5.0


@pytest.fixture
def branch() -> BranchRecord:
    return branch_of(PARENT, TEMPLATE, 1.0, "frozen")


def written(*records: BranchRecord) -> Values:
    values: Values = {}
    for record in records:
        branch_records.write(values, record)
    return values


def index_of(*hosts: HostRecord) -> MachineIndex:
    return MachineIndex(hosts={host.uuid: host for host in hosts})


def held(branch: BranchRecord, until: float) -> Values:
    return {key_of(branch_records.lock_of(branch)): write(Entry("t", until, "elsewhere"))}


def test_a_written_branch_is_read(branch: BranchRecord) -> None:
    assert branch_records.read(written(branch)) == ([branch], [])


@pytest.mark.parametrize("value", ["", "2 {}", "1 {}", "1 nonsense"])
def test_an_unreadable_branch_is_reported_and_kept(branch: BranchRecord, value: str) -> None:
    values = {BRANCH + branch.uuid: value}
    records, unreadable = branch_records.read(values)
    assert (records, [entry.name for entry in unreadable]) == ([], [f"branch {branch.uuid}"])
    branch_records.prune(values, index_of(), branch.owner, NOW)
    assert values


def test_a_record_under_the_uuid_of_another_branch_proves_nothing(branch: BranchRecord) -> None:
    other_branch = replace(branch, uuid=PARENT.uuid)
    assert (
        branch_records.read(
            {BRANCH + branch.uuid: written(other_branch)[BRANCH + other_branch.uuid]}
        )[0]
        == []
    )


def test_a_branch_is_kept_while_a_host_or_a_reservation_or_its_controller_exists(
    branch: BranchRecord,
) -> None:
    child = host_record(branch=branch.uuid)
    reservation = {HOST + child.domain: FORMAT + encode(child)}
    for kept_values, index in (
        ({}, index_of(child)),
        (reservation, index_of()),
        (held(branch, NOW + 1), index_of()),
        ({}, MachineIndex(has_unreadable=True)),
    ):
        values = {**written(branch), **kept_values}
        branch_records.prune(values, index, branch.owner, NOW)
        assert branch_records.read(values)[0] == [branch]


def test_a_branch_without_hosts_and_controller_is_deleted_and_no_other(
    branch: BranchRecord,
) -> None:
    foreign = replace(branch, owner="another", uuid=TEMPLATE.uuid)
    values = {**written(branch, foreign), **held(branch, NOW - 1)}
    branch_records.prune(values, index_of(PARENT), branch.owner, NOW)
    assert branch_records.read(values)[0] == [foreign]


def test_the_template_of_a_branch_is_in_use(branch: BranchRecord) -> None:
    with pytest.raises(OperationRefused, match="branch"):
        branch_records.refuse_if_used(written(branch), TEMPLATE)
    branch_records.refuse_if_used(written(branch), replace(TEMPLATE, generation="g2" * 32))
