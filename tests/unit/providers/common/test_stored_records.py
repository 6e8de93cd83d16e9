# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One compare-and-set, one reading of records and one translation of errors for all hypervisors."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard.errors import (
    Conflict,
    HypervisorError,
    ImageError,
    InvalidInput,
    NotFound,
    OperationRefused,
    OutOfSpace,
)
from stockyard.hypervisor.records import StoredRecord, decode_pool, encode
from stockyard.model.observation import UnreadableObject
from stockyard.model.pool import PoolRecord
from stockyard.providers.common.os_errors import translate_os_error
from stockyard.providers.common.record_store import RecordStore
from stockyard.providers.common.stored_records import (
    check_version,
    compare_and_set,
    put_version,
    read_record,
    require_stored,
    separate,
)
from tests.helpers.record_strategies import full_host, full_pool, full_template, full_volume

PROVIDERS = Path(__file__).parents[4] / "plugins/module_utils/stockyard/providers"
OTHER_UUID = "7c1f0b3e-5d0a-4c55-9a39-0a2d5a2f4c11"
RECORDS: list[StoredRecord] = [full_host(), full_template(), full_volume(), full_pool()]
each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(record.kind))


@each_record
def test_next_version_has_the_changes(record: StoredRecord) -> None:
    changed = compare_and_set(record, record, created=7.0)
    assert (changed.version, changed.created) == (record.version + 1, 7.0)


@each_record
def test_change_of_an_outdated_version_is_a_conflict(record: StoredRecord) -> None:
    stored = replace(record, version=record.version + 1)
    with pytest.raises(Conflict, match=f"has version {stored.version}"):
        compare_and_set(record, stored, created=7.0)
    with pytest.raises(Conflict):
        check_version(record, record.version - 1)


@each_record
def test_record_that_is_not_stored_is_not_found(record: StoredRecord) -> None:
    other_object = next(candidate for candidate in RECORDS if candidate.kind != record.kind)
    for stored in (
        None,
        replace(record, uuid=OTHER_UUID),
        replace(other_object, uuid=record.uuid),
    ):
        with pytest.raises(NotFound):
            require_stored(record, stored)


@each_record
def test_record_in_an_unreadable_place_is_refused_with_the_reason(record: StoredRecord) -> None:
    with pytest.raises(OperationRefused, match=r"nothing was changed.*made by a newer stockyard"):
        compare_and_set(record, UnreadableObject("x", "it was made by a newer stockyard"))


def test_new_pool_has_version_one_and_its_name_is_given_once() -> None:
    record = replace(full_pool(), version=0)
    created = put_version(record, None)
    assert created.version == 1
    with pytest.raises(Conflict, match="another pool"):
        put_version(replace(record, uuid=OTHER_UUID), created)
    with pytest.raises(Conflict, match="changed by another controller"):
        put_version(record, created)
    with pytest.raises(Conflict, match="changed by another controller"):
        put_version(created, None)
    with pytest.raises(OperationRefused):
        put_version(record, UnreadableObject("x", "why"))


def test_copied_record_is_unreadable() -> None:
    pool = full_pool()
    assert read_record("x", encode(pool), decode_pool, lambda record: True) == pool
    copy = read_record("x", encode(pool), decode_pool, lambda record: False)
    damaged = read_record("x", "{", decode_pool, lambda record: True)
    assert separate([pool, copy, None, damaged])[0] == [pool]
    reasons = [item.reason for item in separate([pool, copy, None, damaged])[1]]
    assert "is a copy" in reasons[0]
    assert "not JSON" in reasons[1]


@pytest.fixture
def store(tmp_path: Path) -> RecordStore[PoolRecord]:
    return RecordStore(
        "pool",
        lambda: sorted(path.stem for path in tmp_path.glob("*.json")),
        lambda name: tmp_path / "folder" / f"{name}.json",
        lambda record: record.domain,
        decode_pool,
        encode,
    )


def test_store_creates_its_directory_and_keeps_records_by_name(
    store: RecordStore[PoolRecord], tmp_path: Path
) -> None:
    pool = full_pool()
    assert store.get(pool.domain) is None
    with pytest.raises(NotFound):
        store.claim(pool, created=2.0)
    store.write(pool)
    assert store.find(pool) == pool
    assert store.claim(pool, created=2.0) == store.get(pool.domain)
    with pytest.raises(Conflict):
        store.claim(pool, created=3.0)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert store.path(pool.domain).stat().st_mode & 0o777 == 0o600


def test_copied_file_of_a_store_is_unreadable(store: RecordStore[PoolRecord]) -> None:
    store.write(full_pool())
    store.path("copy").write_bytes(store.path(full_pool().domain).read_bytes())
    assert isinstance(store.get("copy"), UnreadableObject)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_storage_is_named(number: int) -> None:
    with (
        pytest.raises(OutOfSpace, match=r"web-1: it failed.*Remedy: free space") as caught,
        translate_os_error("it failed.", "host web-1", "another remedy", ImageError),
    ):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_other_error_of_the_file_system_has_the_remedy() -> None:
    with (
        pytest.raises(HypervisorError, match=r"Permission denied.*Remedy: ask root"),
        translate_os_error("it failed.", "host web-1", "ask root"),
    ):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(InvalidInput), translate_os_error("it failed.", "x"):
        raise InvalidInput("not of the file system")


def functions(condition: Callable[[ast.AST], bool]) -> set[str]:
    """Return the files below the providers that contain a matching part."""
    return {
        str(path.relative_to(PROVIDERS))
        for path in PROVIDERS.rglob("*.py")
        if any(condition(node) for node in ast.walk(ast.parse(path.read_text())))
    }


def test_versions_are_compared_in_one_place() -> None:
    def compares_versions(node: ast.AST) -> bool:
        if not isinstance(node, ast.Compare):
            return False
        sides: list[Any] = [node.left, *node.comparators]
        return sum("version" in ast.unparse(side) for side in sides) == 2

    assert functions(compares_versions) == {"common/stored_records.py"}


def test_full_storage_is_recognized_in_one_place() -> None:
    def names_error(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and ast.unparse(node) == "errno.EDQUOT"

    assert functions(names_error) == {"common/os_errors.py"}
