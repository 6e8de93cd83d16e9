# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard: everything of one owner on one hypervisor. SDK users hold a ``Yard``, and call its
resource clients.
"""

from __future__ import annotations

import math
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .clock import Clock, SystemClock
from .escaping import one_line
from .hypervisor.provider import Progress, Provider
from .model import naming
from .model.host_info import HostInfo
from .model.login import NOBODY, Login
from .model.yard_info import HypervisorInfo, ReportInfo, SkippedObject
from .paths import expand_user
from .pki.store import Pki
from .planning.declaration import Declaration
from .providers.open import open_provider
from .resources.context import Context
from .resources.operation import run
from .result import Result

if TYPE_CHECKING:
    from .clients.certificates import CertificatesClient
    from .clients.endpoints import EndpointsClient
    from .clients.fleets import FleetsClient
    from .clients.hosts import HostsClient
    from .clients.leases import LeasesClient
    from .clients.pools import PoolsClient
    from .clients.templates import TemplatesClient
    from .clients.volumes import VolumesClient
    from .views.inventory import Listing

DEFAULT_HYPERVISOR = "qemu:///session"
DEFAULT_OWNER = "stockyard"
TIMEOUT = 600.0
REAP_GRACE = 3600.0


class Yard:
    """A connection to a hypervisor, for one owner's objects. Use it in a ``with`` statement.

    Its parts are imported when they are first used.

    Its resource clients are ``templates``, ``fleets``, ``hosts``, ``volumes``, ``leases``,
    ``pools``, ``endpoints`` and ``certificates``.

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
        base = expand_user(pki_dir) if pki_dir else _config_home()

        def pki(tenant: str) -> Pki:
            return Pki(base / owner / tenant, f"{owner}/{tenant}", ca_certificate, ca_private_key)

        self.context = Context(
            provider=provider or open_provider(uri, storage, login),
            owner=owner,
            pki=pki,
            clock=clock or SystemClock(),
            progress=_escaping(progress),
            volume_key=_checked(volume_key),
        )

    @cached_property
    def templates(self) -> TemplatesClient:
        """Return the client for templates."""
        from .clients.templates import TemplatesClient

        return TemplatesClient(self.context)

    @cached_property
    def hosts(self) -> HostsClient:
        """Return the client for hosts."""
        from .clients.hosts import HostsClient

        return HostsClient(self.context)

    @cached_property
    def fleets(self) -> FleetsClient:
        """Return the client for fleets."""
        from .clients.fleets import FleetsClient

        return FleetsClient(self.context, self.hosts)

    @cached_property
    def volumes(self) -> VolumesClient:
        """Return the client for volumes."""
        from .clients.volumes import VolumesClient

        return VolumesClient(self.context)

    @cached_property
    def leases(self) -> LeasesClient:
        """Return the client for leases."""
        from .clients.leases import LeasesClient

        return LeasesClient(self.context)

    @cached_property
    def pools(self) -> PoolsClient:
        """Return the client for pools."""
        from .clients.pools import PoolsClient

        return PoolsClient(self.context)

    @cached_property
    def endpoints(self) -> EndpointsClient:
        """Return the client for endpoints."""
        from .clients.endpoints import EndpointsClient

        return EndpointsClient(self.context)

    @cached_property
    def certificates(self) -> CertificatesClient:
        """Return the client for client certificates."""
        from .clients.certificates import CertificatesClient

        return CertificatesClient(self.context)

    def __enter__(self) -> Yard:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the hypervisor."""
        self.context.provider.close()

    def preflight(self) -> HypervisorInfo:
        """Return the capabilities of the hypervisor, and the problems that prevent a yard on it,
        each in a line. Changes nothing.
        """
        capabilities = self.context.provider.capabilities
        return HypervisorInfo(
            modes=capabilities.modes,
            parallel=capabilities.parallel,
            endpoints=capabilities.endpoints,
            volumes=capabilities.volumes,
            problems=tuple(self.context.provider.preflight()),
        )

    def apply(
        self,
        declaration: Declaration,
        *,
        check: bool = False,
        save_plan: str | Path = "",
        apply_plan: str | Path = "",
    ) -> Result[HostInfo]:
        """Converge the whole yard to its declaration. The result's objects are the hosts of all
        declared fleets.

        :param save_plan: a file, ending in ``.json``, to write the plan to; a Markdown file with
            the same name is written next to it.
        :param apply_plan: a saved plan: nothing changes unless it still matches the yard.
        :raises OperationRefused: if it would delete a fleet that is not declared, by no saved plan
            and without ``force``.
        """
        from .resources.yard.saved_plans import SavedConvergence

        convergence = SavedConvergence(
            self.context,
            declaration,
            expand_user(save_plan) if save_plan else None,
            expand_user(apply_plan) if apply_plan else None,
        )
        # Each part of a declaration has its own timeout.
        plan = run(convergence, check=check, timeout=math.inf)
        fleets = {
            *((term.spec.tenant, term.spec.name) for term in declaration.fleets),
            *((term.tenant, term.name) for term in declaration.suspended_fleets),
        }
        hosts = [host for host in self.hosts.list() if (host.tenant, host.fleet) in fleets]
        return Result(plan, tuple(hosts))

    def teardown(
        self,
        *,
        templates: bool = False,
        volumes: bool = False,
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[HostInfo]:
        """Delete every host of the yard, declared or not, and on request its templates and volumes.

        Volumes hold data that must outlive hosts: without the request they stay, and the result
        names them.
        """
        from .resources.yard.teardown import YardDeletion

        deletion = YardDeletion(self.context, templates, volumes)
        plan = run(deletion, check=check, timeout=timeout)
        return Result(
            plan,
            self.hosts.list(),
            () if volumes else tuple(f"volume {volume.name}" for volume in self.volumes.list()),
        )

    def suspend(self, *, check: bool = False, timeout: float = TIMEOUT) -> Result[HostInfo]:
        """Suspend every running host of the yard, declared or not, leased or not: its memory is
        saved, and it uses no RAM and no CPU time. A host with an encrypted volume is shut down
        instead.

        :raises OutOfSpace: if the storage lacks the space for the memory of all hosts.
        """
        from .resources.yard.suspend_yard import YardSuspension

        plan = run(YardSuspension(self.context), check=check, timeout=timeout)
        return Result(plan, self.hosts.list())

    def resume(self, *, check: bool = False, timeout: float = TIMEOUT) -> Result[HostInfo]:
        """Resume every suspended host of the yard with its memory, and change nothing else."""
        from .resources.yard.suspend_yard import YardResume

        plan = run(YardResume(self.context), check=check, timeout=timeout)
        return Result(plan, self.hosts.list())

    def reap(
        self, *, dry_run: bool = False, grace: float = REAP_GRACE, timeout: float = TIMEOUT
    ) -> Result[SkippedObject]:
        """Delete expired, incomplete and orphaned objects; the result's objects are the skipped
        ones, each with the reason.

        :param grace: seconds that the creation of an object can take before the object counts as
            orphaned.
        """
        from .resources.yard.reap_yard import YardReaping

        result = run(YardReaping(self.context, grace), check=dry_run, timeout=timeout)
        return Result(result.plan, result.skipped)

    def listing(self) -> Listing:
        """Return all hosts from one reading of the hypervisor, for inventories; their SSH host keys
        are pinned.
        """
        from .views import inventory

        return inventory.listing(self.context)

    def report(self, path: str | Path, form: str = "html", *, check: bool = False) -> ReportInfo:
        """Write the present state of the yard to a file: a page for people (``html``), or
        ``metrics`` for Prometheus.
        """
        from .views import report

        changed, snapshot = report.report(self.context, expand_user(path), form, check=check)
        return ReportInfo(changed=changed, dest=str(path), figures=snapshot.figures)


def _escaping(progress: Progress | None) -> Progress:
    """Return a progress function that escapes every line to one printable line, because lines can
    contain text from guests.
    """
    return (lambda line: progress(one_line(line))) if progress else (lambda _line: None)


def _checked(volume_key: str) -> str:
    """Return the secret of volume keys.

    :raises InvalidInput: if the secret is too short.
    """
    if not volume_key:
        return ""
    from .resources.volumes import encryption

    return encryption.check_secret(volume_key)


def _config_home() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "stockyard"
