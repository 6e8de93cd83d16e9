# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard: everything of one owner on one hypervisor. The parts are put together here; users of the
SDK hold this.
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
    """Opens a hypervisor and works on one owner's objects. Use it in a ``with`` statement.

    :param hypervisor: its URI; ``STOCKYARD_HYPERVISOR`` when not given, else ``qemu:///session``.
    :param owner: whose yard it is; two owners never touch each other's objects.
    :param pki_dir: directory for keys; ``~/.config/stockyard`` when not given.
    :param storage: where templates and hosts are kept: a directory on the hypervisor, on vSphere a
        datastore.
    :param login: who opens a hypervisor that asks, such as vCenter.
    :param ca_certificate: with ``ca_private_key``, the tenant's CA as PEM instead of one in
        ``pki_dir``.
    :param volume_key: what the keys of encrypted volumes are made of, at least 32 random
        characters.
    :param progress: called with a line for every stage that ends.
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
        """Let go of the hypervisor."""
        self.context.provider.close()

    def preflight(self) -> dict[str, Any]:
        """What the hypervisor offers, and what is in the way of a yard on it, each in a line.
        Changes nothing.
        """
        provider = self.context.provider
        offered = {
            k: v
            for k, v in asdict(provider.capabilities).items()
            if k in ("modes", "parallel", "endpoints", "volumes")
        }
        return {
            **offered,
            "modes": list(provider.capabilities.modes),
            "problems": provider.preflight(),
        }

    def template(
        self, spec: TemplateSpec, *, check: bool = False, timeout: float = TEMPLATE_TIMEOUT
    ) -> Result:
        """Have a frozen template as declared."""
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
        """Take all generations of a template away."""
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
        """Make a fleet as declared; wait until Docker answers in every host of it, or only for
        their identities.
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
        """Take all hosts of a fleet away."""
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
        """One host by name: ``present``, ``absent``, ``restarted`` or ``replaced``."""
        context = replace(self.context, wait=wait)
        plan = (
            single_host.plan(context, spec, state)
            if check
            else single_host.converge(context, spec, state, timeout)
        )
        return Result(plan, self.hosts(spec.tenant, name=spec.name))

    def client_certificate(self, client: Client, *, check: bool = False) -> Result:
        """Have a client certificate in a directory, made anew when a third of its life is left, or
        it was revoked.
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
        """Have all running hosts of a tenant refuse a client: all certificates that were issued to
        it here, and one that is given as PEM or by its serial number in hex.
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
        only_if: str | Path = "",
    ) -> Result:
        """Have the whole yard as declared.

        :param save_plan: a file, ending in ``.json``, that the plan is written to; as Markdown too,
            beside it.
        :param only_if: a saved plan: nothing is done unless it is still true.
        :raises Refused: if it would delete a fleet that is not declared, by no saved plan and
            without ``force``.
        """
        earlier = saved_plans.load(Path(only_if).expanduser()) if only_if else None
        confirmed = earlier is not None or (check and bool(save_plan))
        now = (
            saved_plans.sealed(self.context, declared, confirmed=confirmed)
            if save_plan or earlier or check
            else None
        )
        if earlier and now:
            earlier.check(now)
        if save_plan and now:
            saved_plans.save(now, Path(save_plan).expanduser())
        plan = (
            Plan(now.actions)
            if check and now
            else converge_yard.converge(self.context, declared, confirmed=confirmed)
        )
        fleets = {(f.spec.tenant, f.spec.name) for f in declared.fleets}
        return Result(plan, [h for h in self.hosts() if (h["tenant"], h["fleet"]) in fleets])

    def teardown(
        self,
        *,
        templates: bool = False,
        volumes: bool = False,
        check: bool = False,
        timeout: float = FLEET_TIMEOUT,
    ) -> Result:
        """Take every host of the yard away, declared or not, and its templates and volumes when
        asked.

        Volumes hold what is meant to outlive hosts: they stay otherwise, and the result names them.
        """
        what = (self.context, templates, volumes)
        act = teardown.plan(*what) if check else teardown.run(*what, timeout)
        return Result(
            act,
            self.hosts(),
            () if volumes else tuple(f"volume {v['name']}" for v in self.volumes()),
        )

    def reap(
        self, *, dry_run: bool = False, grace: float = REAP_GRACE, timeout: float = FLEET_TIMEOUT
    ) -> Result:
        """Take away what is over, half-made or left behind; the result's objects are what was left
        alone, and why.

        :param grace: seconds that something may take to be made before it counts as left behind.
        """
        plan, left = (
            reap_yard.plan(self.context, grace)
            if dry_run
            else reap_yard.run(self.context, grace, timeout)
        )
        return Result(plan, left)

    def prune_templates(self) -> list[str]:
        """Take away old generations that no host lives on, and images that no template
        is made of.
        """
        return build_template.prune(self.context)

    def hosts(
        self,
        tenant: str | None = None,
        fleet: str | None = None,
        name: str | None = None,
        *,
        behind: bool = False,
    ) -> list[dict[str, Any]]:
        """Hosts as modules return them, by name.

        :param behind: whether to ask the mirrors what each host lacks.
        """
        seen = self.context.provider.observe(self.context.owner)
        drift = trust.drifts(self.context, seen.hosts)
        chosen = _chosen(
            seen,
            lambda r: (
                tenant in (None, r.tenant) and fleet in (None, r.fleet) and name in (None, r.name)
            ),
        )
        answers = guest_status.statuses(self.context, chosen.hosts)
        waits, clocks = (
            encryption.locked(chosen.hosts, answers),
            guest_status.skewed(chosen.hosts, answers),
        )
        found = [
            access.describe_host(
                self.context,
                h,
                drift[h.record.uuid],
                waits.get(h.record.name, ""),
                clocks.get(h.record.uuid, ""),
            )
            for h in chosen.hosts
        ]
        lacks = freshness.hosts_behind(self.context, chosen) if behind else {}
        return [{**h, "behind": lacks[h["uuid"]]} if behind else h for h in found]

    def listing(self) -> inventory.Listing:
        """All hosts by one reading of the hypervisor, for inventories; their SSH host keys are
        pinned.
        """
        return inventory.listing(self.context)

    def report(
        self, path: str | Path, form: str = "html", *, check: bool = False
    ) -> dict[str, Any]:
        """Write the yard as it is to a file: a page for people (``html``), or ``metrics`` for
        Prometheus.
        """
        changed, seen = report.report(self.context, Path(path).expanduser(), form, check=check)
        figures = {kind: len(found) for kind, found in seen.items() if isinstance(found, list)}
        return {"changed": changed, "dest": str(path), "figures": figures}

    def fleets(
        self, tenant: str | None = None, name: str | None = None, *, behind: bool = False
    ) -> list[dict[str, Any]]:
        """Fleets as modules return them, by tenant and name. A fleet is known by its hosts: one of
        none is not.

        :param behind: whether to ask the mirrors what each host lacks.
        """
        seen = self.context.provider.observe(self.context.owner)
        chosen = _chosen(
            seen, lambda r: bool(r.fleet) and tenant in (None, r.tenant) and name in (None, r.fleet)
        )
        drift, old = trust.drifts(self.context, seen.hosts), freshness.outdated(chosen)
        lacks = freshness.hosts_behind(self.context, chosen) if behind else None
        members: dict[tuple[str, str], list[Host]] = {}
        for host in chosen.hosts:
            members.setdefault((host.record.tenant, host.record.fleet), []).append(host)
        clocks = guest_status.skewed(
            chosen.hosts, guest_status.statuses(self.context, chosen.hosts)
        )
        return [
            access.describe_fleet(members[key], drift, old, lacks, clocks)
            for key in sorted(members)
        ]

    def templates(self, tenant: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Templates as modules return them, all generations; the one that rules comes last of its
        template.
        """
        found = [
            t
            for t in self.context.provider.observe(self.context.owner).templates
            if tenant in (None, t.record.tenant) and name in (None, t.record.name)
        ]
        return [
            access.describe_template(self.context, t)
            for t in sorted(found, key=lambda t: t.record.since)
        ]


def _chosen(seen: Observation, wanted: Callable[[HostRecord], bool]) -> Observation:
    """The same observation with some of its hosts, by name."""
    return replace(
        seen,
        hosts=tuple(
            sorted((h for h in seen.hosts if wanted(h.record)), key=lambda h: h.record.name)
        ),
    )


def _escaping(progress: Progress | None) -> Progress:
    """Hold every line of progress to one printable line, whatever guests called their
    containers.
    """
    return (lambda line: progress(one_line(line))) if progress else (lambda _line: None)


def _config_home() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "stockyard"
