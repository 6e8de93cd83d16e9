# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access of users to a host: endpoints, certificates, pinned keys, and command lines."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ...model.access_info import (
    DockerAccess,
    SshAccess,
    export_line,
    ssh_config_entry,
    ssh_options,
)
from ...model.fleet_info import FleetInfo
from ...model.host import Host, HostRecord, Identity
from ...model.host_info import HostIdentityInfo, HostInfo, MountedVolume
from ...model.observation import Observation, Template
from ...model.template import Source
from ...model.template_info import PackageMirrors, PackageSource, TemplateInfo
from ...model.versions import MissingUpdate
from ...model.volume import DOCKER_ROOT
from ..context import Context

UPLINK_ENDED = "the process of its uplink has ended, so it reaches nothing"
PORTS_NOT_FORWARDED = "new ports of its containers are not forwarded"
UNFINISHED_RESUME = "its resume was interrupted; the next convergence completes it"


def sync_known_hosts(ctx: Context, tenant: str) -> Observation:
    """Pin the SSH host keys of a tenant's hosts, as currently on record; renew the client
    certificate when due. Returns the observation: it is as recent as can be, because other runs
    write the same file.
    """
    observation = ctx.provider.observe(ctx.owner)
    hosts = [host.record for host in observation.of_tenant(tenant)]
    ctx.pki(tenant).pin([record.known_host for record in hosts if record.identity])
    name_hosts(ctx, tenant, hosts)
    if hosts and ctx.pki(tenant).existing_authority():
        ctx.pki(tenant).client(ctx.today())
    return observation


def name_hosts(ctx: Context, tenant: str, records: Iterable[HostRecord]) -> Path:
    """Write the tenant's configuration of OpenSSH, with the names and the pinned keys of its hosts
    on this hypervisor; return its path.
    """
    pki, place = ctx.pki(tenant), ctx.provider.uri
    complete_records = [record for record in records if record.identity]
    known_hosts = pki.pin([record.known_host for record in complete_records], place)
    entries = [
        ssh_config_entry(
            record.name,
            *record.ssh_endpoint,
            record.ssh_user,
            str(known_hosts.absolute()),
            private_key_for(ctx, record),
        )
        for record in sorted(complete_records, key=lambda record: record.name)
    ]
    return pki.configure_ssh("".join(entries), place)


def private_key_for(ctx: Context, record: HostRecord) -> str:
    """Return the file of the operator's key; empty if the declaration names other keys, because
    the operator's key is then not authorized.
    """
    return "" if record.spec.authorized_keys else str(ctx.pki(record.tenant).ssh_key.absolute())


def describe_host(
    ctx: Context,
    host: Host,
    drift: Sequence[str] = (),
    waits: str = "",
    clock: str = "",
    updates: Mapping[str, tuple[MissingUpdate, ...] | None] | None = None,
) -> HostInfo:
    """Return the public facts of a host: facts, endpoints, and how to use them. Nothing secret.

    :param drift: the reasons why the host must be renewed.
    :param waits: the reason why the host serves no user although it runs.
    :param clock: the reason why its clock must be set.
    :param updates: the updates that each host lacks, by uuid, if requested.
    """
    record, spec = host.record, host.record.spec
    facts = ctx.provider.facts(record)
    problems = [UPLINK_ENDED] if host.serving and facts.uplink_ended else []
    if host.serving and facts.ports_problem:
        problems.append(f"{PORTS_NOT_FORWARDED}: {facts.ports_problem}")
    return HostInfo(
        name=record.name,
        uuid=record.uuid,
        fleet=record.fleet,
        tenant=record.tenant,
        owner=record.owner,
        template=record.template,
        generation=record.generation[:12],
        labels=record.labels,
        state=host.state,
        phase=record.phase,
        ready=host.serving and not (waits or clock),
        waits=UNFINISHED_RESUME if record.resuming and host.state == "running" else waits,
        drift=(*drift, *([clock] if clock else []), *problems),
        missing_updates=None if updates is None else updates[record.uuid],
        created=record.created,
        expires=record.expires,
        lease=record.lease,
        mode=record.mode,
        mode_reason=record.mode_reason,
        fork_mode=spec.fork_mode,
        engine_identity=spec.engine_identity,
        shared=shared_with_template(record),
        address=record.address,
        mac=record.mac,
        ports=spec.ports,
        published=tuple(f"{address}:{port}" for address, port in record.port_addresses),
        egress=spec.egress,
        egress_proxy=spec.egress_proxy,
        egress_allow=spec.egress_allow,
        network=spec.network,
        pool=spec.pool,
        size=record.size,
        volumes=tuple(MountedVolume(use.of(record.name), use.path) for use in spec.volumes),
        encrypted=record.encrypted,
        identity=_describe_identity(record.identity),
        ssh_user=record.ssh_user,
        ssh=_describe_ssh(ctx, record),
        docker=describe_docker(record, str(ctx.pki(record.tenant).client_directory)),
        storage=facts.storage,
        memory=facts.memory,
        console_log=facts.console_log,
        disk_layers=facts.disk_layers,
        refused=facts.refused,
        container_ports=facts.container_ports,
        esxi_host=facts.esxi_host,
        cluster=facts.cluster,
        folder=facts.folder,
        resource_pool=facts.resource_pool,
        absent=facts.absent | ({"missing_updates"} if updates is None else set()),
    )


def _describe_identity(identity: Identity | None) -> HostIdentityInfo | None:
    if identity is None:
        return None
    return HostIdentityInfo(
        machine_id=identity.machine_id,
        ssh_host_key=identity.ssh_host_key,
        certificate=identity.certificate,
        not_after=identity.not_after,
        authority=identity.authority,
        revoked=identity.revoked,
        engine_id=identity.engine_id,
    )


def _describe_ssh(ctx: Context, record: HostRecord) -> SshAccess:
    pki = ctx.pki(record.tenant)
    private_key = private_key_for(ctx, record)
    address, port = record.ssh_endpoint
    return SshAccess(
        host=address,
        port=port,
        user=record.ssh_user,
        known_hosts=str(pki.known_hosts),
        private_key=private_key,
        command=ssh_command(record, str(pki.known_hosts), private_key),
        config=str(pki.ssh_config.absolute()),
    )


def describe_docker(record: HostRecord, certificates: str) -> DockerAccess:
    """Return the access to a host's Docker API with the certificates in a directory."""
    address, port = record.docker_endpoint
    endpoint = f"tcp://{address}:{port}"
    environment = {
        "DOCKER_HOST": endpoint,
        "DOCKER_CERT_PATH": certificates,
        "DOCKER_TLS_VERIFY": "1",
    }
    return DockerAccess(
        endpoint=endpoint,
        environment=environment,
        export=export_line(environment),
        context=context_command(record.name, endpoint, certificates),
    )


def shared_with_template(record: HostRecord) -> tuple[str, ...]:
    """Return the identifiers that a host shares with its template, and so with every other fork of
    it.
    """
    shared_ids = ("boot_id", "dmi_uuid", "kaslr") if record.mode == "instant" else ()
    # Docker stores the identity with its data: if the data is on a volume, so is the identity.
    unique_engine = record.spec.engine_identity == "unique" or any(
        use.path == DOCKER_ROOT for use in record.spec.volumes
    )
    return shared_ids if unique_engine else (*shared_ids, "docker_engine_id")


def ssh_command(record: HostRecord, known_hosts: str, private_key: str) -> str:
    """Return the command line that logs in, with the pinned key only."""
    options = ssh_options(known_hosts, private_key)
    address, port = record.ssh_endpoint
    return shlex.join(["ssh", "-p", str(port), *options, "--", f"{record.ssh_user}@{address}"])


def context_command(name: str, endpoint: str, certificates: str) -> str:
    """Return the command line that creates a context for Docker's own client."""
    files = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    options = ",".join(
        [
            f"host={endpoint}",
            *(_field(f"{option}={certificates}/{file}") for option, file in files.items()),
        ]
    )
    return shlex.join(["docker", "context", "create", name, "--docker", options])


def _field(text: str) -> str:
    """Return one field of an option of Docker's client, which parses the option as a line
    of CSV.
    """
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def describe_fleet(
    members: Sequence[Host],
    drift: Mapping[str, Sequence[str]],
    outdated: Collection[str] = (),
    updates: Mapping[str, tuple[MissingUpdate, ...] | None] | None = None,
    clocks: Mapping[str, str] | None = None,
) -> FleetInfo:
    """Return the public facts of a fleet: common facts of its hosts, and how many are ready.

    :param drift: the reasons why each host must be renewed, by uuid.
    :param outdated: the uuids of hosts that are not of the current generation.
    :param updates: the updates that each host lacks, by uuid, if requested.
    :param clocks: the hosts whose clocks must be set, by uuid, each with the reason.
    """
    clocks = clocks or {}
    reasons = {
        host.record.name: (
            *drift.get(host.record.uuid, ()),
            *([clocks[host.record.uuid]] if host.record.uuid in clocks else []),
        )
        for host in members
    }
    newest = max((host.record for host in members), key=lambda record: record.created)
    return FleetInfo(
        name=newest.fleet,
        tenant=newest.tenant,
        template=newest.template,
        generations=tuple(sorted({host.record.generation[:12] for host in members})),
        hosts=tuple(sorted(host.record.name for host in members)),
        ready=sum(host.serving and host.record.uuid not in clocks for host in members),
        total=len(members),
        leased=sum(host.record.lease is not None for host in members),
        outdated=tuple(
            sorted(host.record.name for host in members if host.record.uuid in outdated)
        ),
        missing_updates=None
        if updates is None
        else {host.record.name: updates[host.record.uuid] for host in members},
        drift={name: host_reasons for name, host_reasons in reasons.items() if host_reasons},
        absent=frozenset({"missing_updates"} if updates is None else ()),
    )


def describe_template(ctx: Context, template: Template) -> TemplateInfo:
    """Return the public facts of a generation of a template."""
    record, facts = template.record, ctx.provider.facts(template.record)
    return TemplateInfo(
        name=record.name,
        uuid=record.uuid,
        tenant=record.tenant,
        owner=record.owner,
        generation=record.generation[:12],
        phase=record.phase,
        usable=template.usable,
        problem=template.problem,
        image=record.image,
        hardware=record.hardware,
        platform=record.platform,
        drift=template.drift,
        docker=record.docker,
        disk_gib=record.disk_gib,
        max_memory_mib=record.max_memory_mib,
        encrypted=record.encrypted,
        provision=record.provision,
        from_host=record.from_host,
        parent=record.derivation.parent if record.derivation else "",
        parent_generation=record.derivation.generation[:12] if record.derivation else "",
        source=_package_source(record.source) if record.source else None,
        mac=record.mac,
        ssh_user=record.ssh_user,
        created=record.created,
        promoted=record.promoted,
        storage=facts.storage,
        sizes=facts.sizes,
        console_log=facts.console_log,
        esxi_host=facts.esxi_host,
        cluster=facts.cluster,
        folder=facts.folder,
        resource_pool=facts.resource_pool,
        absent=facts.absent,
    )


def _package_source(source: Source) -> PackageSource:
    build = source.build
    mirrors = PackageMirrors(build.mirror, build.security_mirror, build.proxy, build.repositories)
    return PackageSource(source.suite, source.packages, mirrors)
