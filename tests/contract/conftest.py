# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every provider runs the same suite. A new one adds a bench here and its name to HYPERVISORS."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import HostRecord, HostSpec
from stockyard.model.template import TemplateRecord
from stockyard.pki.store import Pki
from stockyard.resources.context import Context
from stockyard.resources.hosts.reservation import address_of, mac_of
from tests.contract.bench import Bench, LibvirtBench, MemoryBench, VsphereBench
from tests.helpers import prepare
from tests.vcsim.simulator import Simulator

HYPERVISORS = ["memory", "vsphere", pytest.param("libvirt", marks=pytest.mark.real)]


@pytest.fixture(scope="session", params=HYPERVISORS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The hypervisor under test."""
    if request.param == "memory":
        return MemoryBench(tmp_path_factory.mktemp("memory") / "hypervisor")
    requested_bench: Bench = request.getfixturevalue(f"{request.param}_bench")
    return requested_bench


@pytest.fixture(scope="session")
def vsphere_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VsphereBench]:
    """A simulated vCenter. Its credentials are not left in the environment, which later tests
    check.
    """
    with Simulator() as vcenter:
        yield VsphereBench(vcenter, tmp_path_factory.mktemp("vsphere"))


@pytest.fixture(scope="session")
def libvirt_bench() -> LibvirtBench:
    """libvirt's session with a yard that the end-to-end tests do not use."""
    from tests.e2e.conftest import TEMPLATE

    with prepare.session(), prepare.yard_apart() as yard:
        yard.templates.apply(TEMPLATE)
        # Other templates of this owner may be newer, and have other hardware.
        observed = yard.context.provider.observe(yard.context.owner)
        generations = observed.generations("default", TEMPLATE.name)
    records = [generation.record for generation in generations if generation.usable]
    newest = max(records, key=lambda record: record.created)
    return LibvirtBench("qemu:///session", str(prepare.APART), newest)


@pytest.fixture
def provider(bench: Bench) -> Iterator[Provider]:
    """One connection."""
    opened = bench.open()
    yield opened
    opened.close()


@pytest.fixture
def second(bench: Bench) -> Iterator[Provider]:
    """Another controller's connection."""
    opened = bench.open()
    yield opened
    opened.close()


@pytest.fixture
def frozen_template(bench: Bench) -> TemplateRecord:
    """A template that forks can be made of."""
    return bench.template


@pytest.fixture
def deadline() -> Deadline:
    """Time enough for a cold boot under emulation."""
    return Deadline(240)


class Drafts:
    """Create records of hosts that do not exist yet, and delete their hosts at the end."""

    def __init__(self, provider: Provider, template: TemplateRecord) -> None:
        self.provider = provider
        self.template = template
        self.made: list[HostRecord] = []

    def __call__(self, name: str = "", **changes: object) -> HostRecord:
        own = uuid.uuid4()
        record = HostRecord(
            owner=self.template.owner,
            tenant=self.template.tenant,
            fleet="",
            name=name or f"contract-{own.hex[:12]}",
            uuid=str(own),
            template=self.template.name,
            generation=self.template.generation,
            spec=HostSpec(),
            ssh_user=self.template.ssh_user,
            mac=mac_of(own, self.provider.capabilities),
            address=address_of(own),
            phase="creating",
            created=1.0,
        )
        record = replace(record, **changes)  # type: ignore[arg-type]
        self.made.append(record)
        return record

    def reserved(self, name: str = "", **changes: object) -> HostRecord:
        """A host that is on record."""
        record = self(name, **changes)
        self.provider.create_host(record, self.template)
        return record

    def forked(self, deadline: Deadline, mode: str = "") -> HostRecord:
        """A host that runs, without an identity."""
        record = self.reserved()
        self.provider.fork(
            record, self.template, mode or self.provider.capabilities.modes[0], deadline
        )
        return record

    def clean(self) -> None:
        """Take all of them away."""
        for record in self.made:
            self.provider.destroy(record)


@pytest.fixture
def drafts(provider: Provider, frozen_template: TemplateRecord) -> Iterator[Drafts]:
    """Hosts for one test."""
    drafts_of_test = Drafts(provider, frozen_template)
    yield drafts_of_test
    drafts_of_test.clean()


@pytest.fixture
def context(provider: Provider, frozen_template: TemplateRecord, tmp_path: Path) -> Context:
    """The context of the resources on this hypervisor."""
    owner = frozen_template.owner
    return Context(provider, owner, lambda tenant: Pki(tmp_path / tenant, f"{owner}/{tenant}"))


def state_of(provider: Provider, record: HostRecord) -> str:
    """Return the power state of a host's machine; empty for a host without a record."""
    hosts = provider.observe(record.owner).hosts
    return next((h.state for h in hosts if h.record.uuid == record.uuid), "")


def on_record(provider: Provider, record: HostRecord) -> HostRecord | None:
    """A host's record of now."""
    hosts = provider.observe(record.owner).hosts
    return next((h.record for h in hosts if h.record.uuid == record.uuid), None)
