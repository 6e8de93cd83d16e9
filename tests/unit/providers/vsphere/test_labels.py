# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The owner of a machine as shown in vCenter."""

from __future__ import annotations

from stockyard.providers.vsphere.labels import Labels, text
from tests.helpers.samples import host_record


def test_label_contains_owner_tenant_and_fleet() -> None:
    assert text(host_record(name="web-1", fleet="web")) == "stockyard/default: fleet web"
    assert text(host_record(name="one", fleet="")) == "stockyard/default: host one"


def test_without_a_name_nothing_is_written() -> None:
    Labels(None, "").write(host_record(), None)  # type: ignore[arg-type]
