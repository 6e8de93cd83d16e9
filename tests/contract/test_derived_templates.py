# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that are derived from a frozen one: run, frozen in turn, forked, deleted."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from stockyard.clock import Deadline
from stockyard.errors import OperationRefused, Unsupported
from stockyard.guest.client import Guest
from stockyard.hypervisor.provider import Provider
from stockyard.model.template import Derivation, TemplateRecord
from stockyard.resources.hosts.reservation import mac_of
from tests.contract.conftest import Drafts, state_of


def draft(provider: Provider, parent: TemplateRecord) -> TemplateRecord:
    own = uuid.uuid4()
    return replace(
        parent,
        name="derived",
        uuid=str(own),
        generation=own.hex,
        mac=mac_of(own, provider.capabilities),
        phase="booting",
        checksums=None,
        version=1,
        derivation=Derivation(parent.name, parent.generation),
    )


def test_derived_template_is_frozen_and_forked(
    provider: Provider, frozen_template: TemplateRecord, deadline: Deadline
) -> None:
    record = draft(provider, frozen_template)
    if not provider.capabilities.derives:
        with pytest.raises(Unsupported):
            provider.derive_template(record, frozen_template, deadline)
        return
    try:
        provider.derive_template(record, frozen_template, deadline)
        with Guest(provider.channel(record, deadline), record.title, deadline) as guest:
            assert guest.hello().uuid == ""
        frozen = provider.freeze(record, deadline)
        assert frozen.phase == "frozen"
        drafts = Drafts(provider, frozen)
        host = drafts.forked(deadline)
        assert state_of(provider, host) == "running"
        with Guest(provider.channel(host, deadline), host.title, deadline) as guest:
            assert guest.hello().uuid == ""
        with pytest.raises(OperationRefused, match="hosts of the template exist"):
            provider.destroy(frozen)
        drafts.clean()
    finally:
        provider.destroy(record)
    observed = provider.observe(record.owner).templates
    assert record.uuid not in {template.record.uuid for template in observed}
    assert any(template.usable for template in observed)
