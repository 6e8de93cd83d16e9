# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records: reservation, observation, compare and set, deletion."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Conflict, NotFound, OperationRefused, StockyardError
from stockyard.hypervisor.provider import Provider
from stockyard.hypervisor.records import encode
from stockyard.model.endpoint_record import EndpointRecord
from stockyard.model.host import HostRecord, HostSpec, Identity
from stockyard.model.template import TemplateRecord
from tests.contract.bench import Bench, restore
from tests.contract.conftest import Drafts, on_record, state_of
from tests.helpers.samples import HOST_KEY

OTHER = "contract-other"
# It would take the suite's template away, which takes minutes to make again: run it when the
# provider is corrected.


def test_a_reserved_host_is_on_record_and_off(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    record = drafts.reserved(labels={"note": 'a\'/><b> & "c" – ü'}, spec=HostSpec(ports=(8080,)))
    assert on_record(second, record) == record
    assert state_of(second, record) == "off"


def test_a_name_is_given_once(provider: Provider, drafts: Drafts) -> None:
    first = drafts.reserved()
    rival = drafts(first.name)
    with pytest.raises(Conflict):
        provider.create_host(rival, drafts.template)
    assert on_record(provider, first) == first
    assert on_record(provider, rival) is None


def test_address_is_allocated_once_across_owners(provider: Provider, drafts: Drafts) -> None:
    first = drafts.reserved(owner=OTHER)
    rival = drafts(address=first.address)
    with pytest.raises(Conflict, match="address"):
        provider.create_host(rival, drafts.template)
    assert on_record(provider, rival) is None


def test_one_of_two_parallel_reservations_succeeds(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    for _try in range(3):
        name = f"contract-race-{uuid.uuid4().hex[:8]}"
        rivals = [drafts(name), drafts(name)]
        won = race(
            partial(provider.create_host, rivals[0], drafts.template),
            partial(second.create_host, rivals[1], drafts.template),
        )
        assert sorted(won) == [False, True]
        assert [on_record(provider, r) is not None for r in rivals] == won


def test_a_host_needs_its_template(provider: Provider, drafts: Drafts) -> None:
    missing = replace(drafts.template, uuid=str(uuid.uuid4()), name="not-there")
    record = drafts()
    with pytest.raises(NotFound):
        provider.create_host(record, missing)
    assert on_record(provider, record) is None


def test_another_owner_is_seen_by_its_addresses_alone(provider: Provider, drafts: Drafts) -> None:
    own_record, foreign_record = drafts.reserved(), drafts.reserved(owner=OTHER)
    observation = provider.observe(own_record.owner)
    assert own_record in [h.record for h in observation.hosts]
    assert foreign_record not in [h.record for h in observation.hosts]
    assert {own_record.address, foreign_record.address} <= observation.addresses
    assert [h.record for h in provider.observe(OTHER).hosts] == [foreign_record]
    # An empty set is what a provider says that does not know.
    assert not observation.names or {own_record.domain, foreign_record.domain} <= observation.names
    assert provider.observe(OTHER).templates == ()


@pytest.mark.parametrize(
    "text", ["", "not JSON", "{}", '{"kind":"host"}', '{"kind":"host","schema":99}', "[" * 5000]
)
def test_unreadable_object_is_reported_and_unchanged(
    bench: Bench, provider: Provider, drafts: Drafts, text: str
) -> None:
    left_alone(bench, provider, drafts, drafts.reserved(), text)


@pytest.mark.parametrize(
    "change",
    [
        {"ssh_user": "-oProxyCommand=touch /tmp/owned"},
        {"labels": {"a": "\x1b[2J"}},
        {"generation": "../x"},
        {"mode_reason": "\ud800"},
        {"created": -1},
    ],
)
def test_record_with_a_field_that_was_never_written_is_reported_and_left_alone(
    bench: Bench, provider: Provider, drafts: Drafts, change: dict[str, Any]
) -> None:
    record = drafts.reserved()
    left_alone(
        bench, provider, drafts, record, json.dumps({**json.loads(encode(record)), **change})
    )


def left_alone(
    bench: Bench, provider: Provider, drafts: Drafts, record: HostRecord, text: str
) -> None:
    """Check that a host with a bad record is reported, and that nothing is done to it."""
    bench.corrupt(record, text)
    try:
        observation = provider.observe(record.owner)
        assert record.domain in [s.name for s in observation.unreadable]
        assert all(s.reason.isprintable() for s in observation.unreadable)
        assert record.uuid not in [h.record.uuid for h in observation.hosts]
        for attempt in (
            lambda: provider.destroy(record),
            lambda: provider.claim(record, phase="deleting"),
            lambda: provider.create_host(drafts(record.name), drafts.template),
        ):
            with pytest.raises(StockyardError, match=f"{record.name}|{record.domain}"):
                attempt()
        assert record.domain in [s.name for s in provider.observe(record.owner).unreadable]
    finally:
        restore(bench, record)
    assert on_record(provider, record) == record


def test_a_record_that_was_copied_proves_nothing(
    bench: Bench, provider: Provider, drafts: Drafts
) -> None:
    original, copy = drafts.reserved(), drafts.reserved()
    bench.corrupt(copy, encode(original))
    try:
        observation = provider.observe(original.owner)
        assert copy.domain in [s.name for s in observation.unreadable]
        assert [h.record.uuid for h in observation.hosts].count(original.uuid) == 1
        with pytest.raises(StockyardError, match=f"{copy.name}|{copy.domain}"):
            provider.destroy(copy)
        assert on_record(provider, original) == original
    finally:
        restore(bench, copy)


def test_claim_writes_the_changes_and_counts_the_version(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    record = drafts.reserved()
    changes: dict[str, Any] = {
        "phase": "ready",
        "mode": "instant",
        "identity": Identity("0" * 32, HOST_KEY, "1f", 2.0),
        "labels": {"a": "b"},
        "endpoint": EndpointRecord("doors", True, "/run/doors.sock", "127.0.0.1", 2376),
    }
    claimed = provider.claim(record, **changes)
    updated = replace(record, **changes, version=2)
    assert claimed == updated
    assert on_record(second, record) == updated


def test_the_longest_facts_of_containers_are_recorded(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    record = provider.claim(drafts.reserved(), containers="Zm9v" * 4096)
    assert on_record(second, record) == record


def test_claim_of_a_changed_record_is_refused(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    record = drafts.reserved()
    changed = second.claim(record, labels={"by": "second"})
    with pytest.raises(Conflict):
        provider.claim(record, labels={"by": "first"})
    assert on_record(provider, record) == changed


def test_of_two_claimers_one_wins(provider: Provider, second: Provider, drafts: Drafts) -> None:
    record = drafts.reserved()
    for _try in range(5):
        now = on_record(provider, record)
        assert now is not None
        won = race(
            partial(provider.claim, now, labels={"by": "0"}),
            partial(second.claim, now, labels={"by": "1"}),
        )
        assert sorted(won) == [False, True]
        after = on_record(provider, record)
        assert after == replace(now, version=now.version + 1, labels={"by": str(won.index(True))})


def test_claim_of_a_deleted_host_is_refused(provider: Provider, drafts: Drafts) -> None:
    record = drafts.reserved()
    provider.destroy(record)
    with pytest.raises(NotFound):
        provider.claim(record, phase="ready")
    assert on_record(provider, record) is None


def test_a_name_that_was_given_again_is_not_the_old_host(
    provider: Provider, drafts: Drafts
) -> None:
    old = drafts.reserved()
    provider.destroy(old)
    new = drafts.reserved(old.name)
    with pytest.raises(NotFound):
        provider.claim(old, phase="ready")
    provider.destroy(old)
    assert on_record(provider, new) == new


def test_destroy_of_a_missing_host_succeeds(provider: Provider, drafts: Drafts) -> None:
    record = drafts.reserved()
    provider.destroy(record)
    provider.destroy(record)
    provider.destroy(drafts())
    observation = provider.observe(record.owner)
    assert record.address not in observation.addresses
    assert on_record(provider, record) is None


def test_parallel_destroys_of_one_host_succeed(
    provider: Provider, second: Provider, drafts: Drafts
) -> None:
    record = drafts.forked(Deadline(60))
    assert race(partial(provider.destroy, record), partial(second.destroy, record)) == [True, True]
    assert on_record(provider, record) is None


def test_a_template_in_use_is_not_destroyed(
    provider: Provider, drafts: Drafts, frozen_template: TemplateRecord
) -> None:
    drafts.reserved()
    with pytest.raises(OperationRefused, match=r"contract-"):
        provider.destroy(frozen_template)
    assert frozen_template.uuid in usable(provider, frozen_template)


def test_template_under_an_unreadable_host_is_not_destroyed(
    bench: Bench, provider: Provider, drafts: Drafts, frozen_template: TemplateRecord
) -> None:
    record = drafts.forked(Deadline(60))
    bench.corrupt(record, "not JSON")
    try:
        with pytest.raises(OperationRefused):
            provider.destroy(frozen_template)
        assert frozen_template.uuid in usable(provider, frozen_template)
    finally:
        restore(bench, record)


def test_template_in_deletion_gets_no_host(
    provider: Provider, second: Provider, drafts: Drafts, frozen_template: TemplateRecord
) -> None:
    # The template of the suite stays: a record of a template that never booted does for this.
    for _try in range(3):
        doomed = spare_template(provider, frozen_template)
        host = drafts(generation=doomed.generation, template=doomed.name)
        won = race(
            partial(provider.destroy, doomed),
            partial(second.create_host, host, doomed),
        )
        assert sorted(won) == [False, True]
        second.destroy(host)
        provider.destroy(doomed)


def test_templates_of_one_generation_with_two_names_are_independent(
    provider: Provider, drafts: Drafts, frozen_template: TemplateRecord
) -> None:
    twin = spare_template(provider, frozen_template, generation=frozen_template.generation)
    drafts.reserved()
    provider.destroy(twin)
    assert twin.uuid not in [t.record.uuid for t in provider.observe(twin.owner).templates]


def test_hosts_of_one_name_in_two_tenants_are_two(provider: Provider, drafts: Drafts) -> None:
    first = drafts.reserved()
    same_name: HostRecord = drafts.reserved(first.name, tenant="contract-tenant")
    assert on_record(provider, first) == first
    assert on_record(provider, same_name) == same_name


def spare_template(
    provider: Provider, like: TemplateRecord, generation: str = ""
) -> TemplateRecord:
    """A template that is on record and has never been started."""
    own = uuid.uuid4()
    record = replace(
        like,
        uuid=str(own),
        name=f"spare-{own.hex[:8]}",
        generation=generation or own.hex * 2,
        phase="booting",
        version=1,
        checksums=None,
    )
    provider.create_template(record, Deadline(60))
    return record


def usable(provider: Provider, template: TemplateRecord) -> list[str]:
    """The uuids of templates that forks can be made of."""
    return [t.record.uuid for t in provider.observe(template.owner).templates if t.usable]


def race(*attempts: Callable[[], object]) -> list[bool]:
    """Run all calls at once; return those that succeeded. Others must raise a StockyardError."""
    start, won = threading.Barrier(len(attempts)), [False] * len(attempts)
    strange: list[Exception] = []

    def run(index: int) -> None:
        start.wait()
        try:
            attempts[index]()
            won[index] = True
        except (Conflict, NotFound, OperationRefused):
            pass
        except Exception as error:  # noqa: BLE001  # shown by the assertion below
            strange.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(attempts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert strange == []
    return won


def test_package_versions_of_an_image_are_recorded(
    provider: Provider, frozen_template: TemplateRecord
) -> None:
    if not provider.capabilities.builds:
        pytest.skip("images are not built of packages on this hypervisor (capability builds)")
    versions = provider.versions(frozen_template.image)
    assert versions["docker.io"]
    assert provider.versions("0" * 64) == {}
