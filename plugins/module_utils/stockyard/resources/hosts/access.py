# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access of users to a host: endpoints, certificates, pinned keys, and command lines."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...model import codec
from ...model.host import DOCKER_PORT, Host, HostRecord
from ...model.observation import Observation, Template
from ...model.volume import DOCKER_ROOT
from ..context import Context


def sync_known_hosts(ctx: Context, tenant: str) -> Observation:
    """Pin the SSH host keys of a tenant's hosts, as currently on record; renew the client
    certificate when due. Returns the observation: it is as recent as can be, because other runs
    write the same file.
    """
    observation = ctx.provider.observe(ctx.owner)
    hosts = [host.record for host in observation.of_tenant(tenant)]
    ctx.pki(tenant).pin([record.known_host for record in hosts if record.identity])
    if hosts and ctx.pki(tenant).found():
        ctx.pki(tenant).client(ctx.today())
    return observation


def describe_host(
    ctx: Context, host: Host, drift: Sequence[str] = (), waits: str = "", clock: str = ""
) -> dict[str, Any]:
    """Return the facts of a host that modules show: facts, endpoints, and how to use them. Nothing
    secret.

    :param drift: the reasons why the host must be renewed.
    :param waits: the reason why the host serves no user although it runs.
    :param clock: the reason why its clock must be set.
    """
    record = host.record
    pki = ctx.pki(record.tenant)
    environment = docker_environment(ctx, record)
    endpoint, certificates = environment["DOCKER_HOST"], environment["DOCKER_CERT_PATH"]
    # If the declaration names keys, the operator's key is not authorized.
    private_key = "" if record.spec.authorized_keys else str(pki.ssh_key)
    facts = codec.to_dict(record)
    del facts["spec"]
    return {
        **facts,
        "state": host.state,
        "ready": host.serving and not (waits or clock),
        "waits": waits,
        "drift": [*drift, *([clock] if clock else [])],
        "generation": record.generation[:12],
        "ports": list(record.spec.ports),
        "published": [f"{address}:{port}" for address, port in sorted(record.published)],
        "egress": record.spec.egress,
        "egress_proxy": record.spec.egress_proxy,
        "network": record.spec.network,
        "pool": record.spec.pool,
        "volumes": [{"name": use.of(record.name), "path": use.path} for use in record.spec.volumes],
        "fork_mode": record.spec.fork_mode,
        "engine_identity": record.spec.engine_identity,
        "shared": shared_with_template(record),
        "ssh": {
            "host": record.address,
            "port": record.ssh_port,
            "user": record.ssh_user,
            "known_hosts": str(pki.known_hosts),
            "private_key": private_key,
            "command": ssh_command(record, str(pki.known_hosts), private_key),
        },
        "docker": {
            "endpoint": endpoint,
            "environment": environment,
            "export": " ".join(
                ["export", *(f"{key}={shlex.quote(value)}" for key, value in environment.items())]
            ),
            "context": context_command(record.name, endpoint, certificates),
        },
        **ctx.provider.facts(record),
    }


def docker_environment(ctx: Context, record: HostRecord) -> dict[str, str]:
    """Return the environment with which Docker's own client reaches a host as the operator."""
    certificates = str(ctx.pki(record.tenant).client_directory)
    endpoint = f"tcp://{record.address}:{DOCKER_PORT}"
    return {"DOCKER_HOST": endpoint, "DOCKER_CERT_PATH": certificates, "DOCKER_TLS_VERIFY": "1"}


def shared_with_template(record: HostRecord) -> list[str]:
    """Return the identifiers that a host shares with its template, and so with every other fork of
    it.
    """
    shared_ids = ["boot_id", "dmi_uuid", "kaslr"] if record.mode == "instant" else []
    # Docker stores the identity with its data: if the data is on a volume, so is the identity.
    unique_engine = record.spec.engine_identity == "unique" or any(
        use.path == DOCKER_ROOT for use in record.spec.volumes
    )
    return shared_ids + ([] if unique_engine else ["docker_engine_id"])


def ssh_command(record: HostRecord, known_hosts: str, private_key: str) -> str:
    """Return the command line that logs in, with the pinned key only."""
    options = [
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"UserKnownHostsFile={_ssh_path(known_hosts)}",
    ]
    if private_key:
        options += ["-o", "IdentitiesOnly=yes", "-i", private_key]
    return shlex.join(
        ["ssh", "-p", str(record.ssh_port), *options, "--", f"{record.ssh_user}@{record.address}"]
    )


def _ssh_path(path: str) -> str:
    """Return a path as an option of ssh_config(5): quoted if it contains blanks, with doubled
    percent signs.
    """
    escaped_path = path.replace("%", "%%")
    if not any(char.isspace() or char in "\"\\'#" for char in escaped_path):
        return escaped_path
    return '"' + escaped_path.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
    missing_updates: Mapping[str, Any] | None = None,
    clocks: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the facts of a fleet that modules show: common facts of its hosts, and how many are
    ready.

    :param drift: the reasons why each host must be renewed, by uuid.
    :param outdated: the uuids of hosts that are not of the current generation.
    :param missing_updates: the updates that each host lacks, by uuid, if requested.
    :param clocks: the hosts whose clocks must be set, by uuid, each with the reason.
    """
    clocks = clocks or {}
    reasons = {host.record.uuid: [*drift.get(host.record.uuid, ())] for host in members}
    for uuid in reasons.keys() & clocks.keys():
        reasons[uuid].append(clocks[uuid])
    updates = (
        {}
        if missing_updates is None
        else {
            "missing_updates": {
                host.record.name: missing_updates[host.record.uuid] for host in members
            }
        }
    )
    newest = max((host.record for host in members), key=lambda record: record.created)
    return {
        "name": newest.fleet,
        "tenant": newest.tenant,
        "template": newest.template,
        "generations": sorted({host.record.generation[:12] for host in members}),
        "hosts": sorted(host.record.name for host in members),
        "ready": sum(host.serving and host.record.uuid not in clocks for host in members),
        "total": len(members),
        "leased": sum(host.record.lease is not None for host in members),
        **updates,
        "outdated": sorted(host.record.name for host in members if host.record.uuid in outdated),
        "drift": {
            host.record.name: reasons[host.record.uuid]
            for host in members
            if reasons[host.record.uuid]
        },
    }


def describe_template(ctx: Context, template: Template) -> dict[str, Any]:
    """Return the facts of a template that modules show."""
    facts = codec.to_dict(template.record)
    return {
        **facts,
        "generation": template.record.generation[:12],
        "usable": template.usable,
        "problem": template.problem,
        **ctx.provider.facts(template.record),
    }
