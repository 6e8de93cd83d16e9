# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that hosts hold, or may hold."""

from __future__ import annotations

import pytest

from stockyard.errors import OperationRefused
from stockyard.model.volume import Attachment
from stockyard.planning.volumes import plan_removal, refuse_if_held
from tests.helpers.record_strategies import UUID, volume_record

HELD = volume_record(attachment=Attachment(UUID, "web-1", "/data"))
OTHER = "5d0f4b52-3a1e-4b7e-8c57-0d6b3f0f6c11"


@pytest.mark.parametrize("host_uuids", [None, {UUID}, {OTHER, UUID}])
def test_volume_of_a_host_that_exists_or_may_exist_is_held(host_uuids: set[str] | None) -> None:
    with pytest.raises(OperationRefused, match="it is attached to host web-1") as caught:
        refuse_if_held(HELD, host_uuids, "no")
    assert "detach it from web-1" in caught.value.remedy
    with pytest.raises(OperationRefused, match="the volume cannot be deleted"):
        plan_removal(HELD, host_uuids)


@pytest.mark.parametrize("host_uuids", [set(), {OTHER}])
def test_volume_of_a_deleted_host_is_free(host_uuids: set[str]) -> None:
    refuse_if_held(HELD, host_uuids, "no")
    (action,) = plan_removal(HELD, host_uuids).actions
    assert (action.verb, action.kind, action.name) == ("delete", "volume", "data")


def test_detached_volume_is_free_whatever_hosts_exist() -> None:
    refuse_if_held(volume_record(), None, "no")
    assert plan_removal(volume_record(), None)
    assert not plan_removal(None, None)
