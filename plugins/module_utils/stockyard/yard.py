# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard: everything of one owner on one hypervisor. This module assembles the parts; SDK users
hold a ``Yard``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .clock import Clock, SystemClock
from .escaping import one_line
from .hypervisor.provider import Progress, Provider
from .leasing import Leasing
from .model import naming
from .model.fleet import FleetSpec, SingleSpec
from .model.host import Host, HostRecord
from .model.login import NOBODY, Login
from .model.observation import Observation
from .model.template import TemplateSpec
from .pki.store import Pki
from .planning.declaration import Declaration
from .planning.plan import Plan
from .pooling import Pooling
from .providers.open import open_provider
from .resources import guest_status
from .resources.certificates import clients
from .resources.certificates.clients import Client
from .resources.context import Context
from .resources.fleets import converge_fleet, single_host
from .resources.hosts import access, trust
from .resources.templates import build_template, freshness
from .resources.volumes import encryption
from .resources.yard import converge_yard, reap_yard, saved_plans, teardown
from .result import Result
from .storing import Storing
from .views import inventory, report

DEFAULT_HYPERVISOR = "qemu:///session"
DEFAULT_OWNER = "stockyard"
TEMPLATE_TIMEOUT = 1800.0
FLEET_TIMEOUT = 600.0
REAP_GRACE = 3600.0


class Yard(Leasing, Pooling, Storing):
    """A connection to a hypervisor, for one owner's objects. Use it in a ``with`` statement.

    :param hypervisor: its URI; ``STOCKYARD_HYPERVISOR`` if not given, else ``qemu:///session``.
    :param owner: the owner of the yard; two owners never change each other's objects.
    :param pki_dir: directory for keys; ``~/.config/stockyard`` if not given.
    :param storage: the storage of templates and hosts: a directory on the hypervisor, on vSphere a
        datastore.
    :param login: credentials for a hypervisor that requires them, such as vCenter.
    :param ca_certificate: with ``ca_private_key``, the tenant's CA as PEM instead of the one in
        ``pki_dir``.
    :param volume_key: the secret that the keys of encrypted volumes are derived from, at least 32
        random characters.
    :param progress: called with a line at the end of every stage.
    """

    def __init__(  # noqa: PLR0913  # options of one connection, all by keyword
        self,
        hypervisor: str = "",
        *,
        owner: str = DEFAULT_OWNER,
        pki_dir: str | None = None,
        storage: str | None = None,
        login: Login = NOBODY,
        ca_certificate: str = "",
        ca_private_key: str = "",
        volume_key: str = "",
        progress: Progress | None = None,
        clock: Clock | None = None,
        provider: Provider | None = None,
    ) -> None:
        naming.name("owner", owner)
        uri = hypervisor or os.environ.get("STOCKYARD_HYPERVISOR") or DEFAULT_HYPERVISOR
        base = Path(pki_dir).expanduser() if pki_dir else _config_home()

        def pki(tenant: str) -> Pki:
            return Pki(base / owner / tenant, f"{owner}/{tenant}", ca_certificate, ca_private_key)

        self.context = Context(
            provider=provider or open_provider(uri, storage, login),
            owner=owner,
            pki=pki,
            clock=clock or SystemClock(),
            progress=_escaping(progress),
            volume_key=encryption.check_secret(volume_key),
        )

    def __enter__(self) -> Yard:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the hypervisor."""
        self.context.provider.close()

    def preflight(self) -> dict[str, Any]:
        """Return the capabilities of the hypervisor, and the problems that prevent a yard on it,
        each in a line. Changes nothing.
        """
        provider = self.context.provider
        capabilities = {
            key: value
            for key, value in asdict(provider.capabilities).items()
            if key in ("modes", "parallel", "endpoints", "volumes")
        }
        return {
            **capabilities,
            "modes": list(provider.capabilities.modes),
            "problems": provider.preflight(),
        }

    def template(
        self, spec: TemplateSpec, *, check: bool = False, timeout: float = TEMPLATE_TIMEOUT
    ) -> Result:
        """Build a frozen template as declared."""
        plan = (
            build_template.plan(self.context, spec)
            if check
            else build_template.ensure(self.context, spec, timeout)
        )
        return Result(plan, self.templates(spec.tenant, spec.name))

    def remove_template(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
    ) -> Result:
        """Delete all generations of a template."""
        act = build_template.plan_removal if check else None
        plan = (
            act(self.context, tenant, name)
            if act
            else build_template.remove(self.context, tenant, name, timeout)
        )
        return Result(plan, self.templates(tenant, name))

    def fleet(
        self,
        spec: FleetSpec,
        *,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
        wait: bool = True,
    ) -> Result:
        """Converge a fleet to its declaration; wait until Docker answers in all of its hosts, or
        only for their identities.
        """
        context = replace(self.context, wait=wait)
        plan = (
            converge_fleet.plan(context, spec)
            if check
            else converge_fleet.converge(context, spec, timeout)
        )
        return Result(plan, self.hosts(spec.tenant, spec.name))

    def remove_fleet(
        self,
        name: str,
        tenant: str = "default",
        *,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
    ) -> Result:
        """Delete all hosts of a fleet."""
        act = converge_fleet.plan_removal if check else None
        plan = (
            act(self.context, tenant, name)
            if act
            else converge_fleet.remove(self.context, tenant, name, timeout)
        )
        return Result(plan, self.hosts(tenant, name))

    def host(
        self,
        spec: SingleSpec,
        state: str = "present",
        *,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
        wait: bool = True,
    ) -> Result:
        """Create, delete, restart or replace one host by name: ``present``, ``absent``,
        ``restarted`` or ``replaced``.
        """
        context = replace(self.context, wait=wait)
        plan = (
            single_host.plan(context, spec, state)
            if check
            else single_host.converge(context, spec, state, timeout)
        )
        return Result(plan, self.hosts(spec.tenant, name=spec.name))

    def client_certificate(self, client: Client, *, check: bool = False) -> Result:
        """Issue a client certificate into a directory; replace it if less than a third of its life
        remains, or if it was revoked.
        """
        plan = (clients.plan_issue if check else clients.issue)(self.context, client)
        return Result(plan, clients.described(self.context, client))

    def revoke(
        self,
        client: Client,
        *,
        certificate: str = "",
        serial: str = "",
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
    ) -> Result:
        """Make all running hosts of a tenant refuse a client: all certificates that this controller
        issued to the client, and a certificate that is given as PEM or by its serial number in hex.
        """
        serials = clients.serials_of(self.context, client, certificate, serial)
        subject = (self.context, client.tenant, client.name, serials)
        plan = clients.plan_revocation(*subject) if check else clients.revoke(*subject, timeout)
        return Result(plan, clients.described(self.context, client))

    def site(
        self,
        declared: Declaration,
        *,
        check: bool = False,
        save_plan: str | Path = "",
        apply_plan: str | Path = "",
    ) -> Result:
        """Converge the whole yard to its declaration.

        :param save_plan: a file, ending in ``.json``, to write the plan to; a Markdown file with
            the same name is written next to it.
        :param apply_plan: a saved plan: nothing changes unless it still matches the yard.
        :raises OperationRefused: if it would delete a fleet that is not declared, by no saved plan
            and without ``force``.
        """
        saved_plan = saved_plans.load(Path(apply_plan).expanduser()) if apply_plan else None
        confirmed = saved_plan is not None or (check and bool(save_plan))
        current_plan = (
            saved_plans.sealed(self.context, declared, confirmed=confirmed)
            if save_plan or saved_plan or check
            else None
        )
        if saved_plan and current_plan:
            saved_plan.check(current_plan)
        if save_plan and current_plan:
            saved_plans.save(current_plan, Path(save_plan).expanduser())
        plan = (
            Plan(current_plan.actions)
            if check and current_plan
            else converge_yard.converge(self.context, declared, confirmed=confirmed)
        )
        fleets = {(term.spec.tenant, term.spec.name) for term in declared.fleets}
        return Result(
            plan, [host for host in self.hosts() if (host["tenant"], host["fleet"]) in fleets]
        )

    def teardown(
        self,
        *,
        templates: bool = False,
        volumes: bool = False,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
    ) -> Result:
        """Delete every host of the yard, declared or not, and on request its templates and volumes.

        Volumes hold data that must outlive hosts: without the request they stay, and the result
        names them.
        """
        arguments = (self.context, templates, volumes)
        act = teardown.plan(*arguments) if check else teardown.run(*arguments, timeout)
        return Result(
            act,
            self.hosts(),
            () if volumes else tuple(f"volume {volume['name']}" for volume in self.volumes()),
        )

    def reap(
        self, *, dry_run: bool = False, grace: float = REAP_GRACE, timeout: float = FLEET_TIMEOUT
    ) -> Result:
        """Delete expired, incomplete and orphaned objects; the result's objects are the skipped
        ones, each with the reason.

        :param grace: seconds that the creation of an object can take before the object counts as
            orphaned.
        """
        plan, skipped = (
            reap_yard.plan(self.context, grace)
            if dry_run
            else reap_yard.run(self.context, grace, timeout)
        )
        return Result(plan, skipped)

    def prune_templates(self) -> list[str]:
        """Delete old generations without hosts, and images without templates; return their
        names.
        """
        return build_template.prune(self.context)

    def hosts(
        self,
        tenant: str | None = None,
        fleet: str | None = None,
        name: str | None = None,
        *,
        check_updates: bool = False,
    ) -> list[dict[str, Any]]:
        """Return hosts as modules return them, by name.

        :param check_updates: whether to ask the mirrors for outdated packages of each host.
        """
        observation = self.context.provider.observe(self.context.owner)
        drift = trust.drifts(self.context, observation.hosts)
        chosen = _chosen(
            observation,
            lambda record: (
                tenant in (None, record.tenant)
                and fleet in (None, record.fleet)
                and name in (None, record.name)
            ),
        )
        answers = guest_status.statuses(self.context, chosen.hosts)
        lock_reasons, clock_reasons = (
            encryption.locked(chosen.hosts, answers),
            guest_status.skewed(chosen.hosts, answers),
        )
        facts = [
            access.describe_host(
                self.context,
                host,
                drift[host.record.uuid],
                lock_reasons.get(host.record.name, ""),
                clock_reasons.get(host.record.uuid, ""),
            )
            for host in chosen.hosts
        ]
        outdated_packages = (
            freshness.updates_of_hosts(self.context, chosen) if check_updates else {}
        )
        return [
            {**host, "missing_updates": outdated_packages[host["uuid"]]} if check_updates else host
            for host in facts
        ]

    def listing(self) -> inventory.Listing:
        """Return all hosts from one reading of the hypervisor, for inventories; their SSH host keys
        are pinned.
        """
        return inventory.listing(self.context)

    def report(
        self, path: str | Path, form: str = "html", *, check: bool = False
    ) -> dict[str, Any]:
        """Write the present state of the yard to a file: a page for people (``html``), or
        ``metrics`` for Prometheus.
        """
        changed, sections = report.report(self.context, Path(path).expanduser(), form, check=check)
        figures = {
            kind: len(objects) for kind, objects in sections.items() if isinstance(objects, list)
        }
        return {"changed": changed, "dest": str(path), "figures": figures}

    def fleets(
        self, tenant: str | None = None, name: str | None = None, *, check_updates: bool = False
    ) -> list[dict[str, Any]]:
        """Return fleets as modules return them, by tenant and name. A fleet is known by its hosts:
        a fleet without hosts is not returned.

        :param check_updates: whether to ask the mirrors for outdated packages of each host.
        """
        observation = self.context.provider.observe(self.context.owner)
        chosen = _chosen(
            observation,
            lambda record: (
                bool(record.fleet)
                and tenant in (None, record.tenant)
                and name in (None, record.fleet)
            ),
        )
        drift, outdated = trust.drifts(self.context, observation.hosts), freshness.outdated(chosen)
        outdated_packages = (
            freshness.updates_of_hosts(self.context, chosen) if check_updates else None
        )
        members: dict[tuple[str, str], list[Host]] = {}
        for host in chosen.hosts:
            members.setdefault((host.record.tenant, host.record.fleet), []).append(host)
        clock_reasons = guest_status.skewed(
            chosen.hosts, guest_status.statuses(self.context, chosen.hosts)
        )
        return [
            access.describe_fleet(members[key], drift, outdated, outdated_packages, clock_reasons)
            for key in sorted(members)
        ]

    def templates(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Return templates as modules return them, all generations; the current generation of a
        template comes last.
        """
        templates = [
            template
            for template in self.context.provider.observe(self.context.owner).templates
            if tenant in (None, template.record.tenant) and name in (None, template.record.name)
        ]
        return [
            access.describe_template(self.context, template)
            for template in sorted(templates, key=lambda template: template.record.since)
        ]


def _chosen(observation: Observation, condition: Callable[[HostRecord], bool]) -> Observation:
    """Return the same observation with only the hosts that meet a condition, by name."""
    return replace(
        observation,
        hosts=tuple(
            sorted(
                (host for host in observation.hosts if condition(host.record)),
                key=lambda host: host.record.name,
            )
        ),
    )


def _escaping(progress: Progress | None) -> Progress:
    """Return a progress function that escapes every line to one printable line, because lines can
    contain text from guests.
    """
    return (lambda line: progress(one_line(line))) if progress else (lambda _line: None)


def _config_home() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "stockyard"
