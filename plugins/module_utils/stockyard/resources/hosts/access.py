# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How users get into a host: endpoints, certificates, pinned keys, and the lines to type."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...model import codec
from ...model.host import DOCKER_PORT, Host, HostRecord
from ...model.observation import Template
from ...model.volume import DOCKER_ROOT
from ..context import Context


def sync_known_hosts(ctx: Context, tenant: str) -> None:
    """Pin the SSH host keys of a tenant's hosts, as they are on record now; renew the client
    certificate when due.
    """
    hosts = [h.record for h in ctx.provider.observe(ctx.owner).hosts if h.record.tenant == tenant]
    ctx.pki(tenant).pin([r.known_host for r in hosts if r.identity])
    if hosts and ctx.pki(tenant).found():
        ctx.pki(tenant).client(ctx.today())


def describe_host(
    ctx: Context, host: Host, drift: Sequence[str] = (), waits: str = "", clock: str = ""
) -> dict[str, Any]:
    """A host as modules return it: facts, endpoints, and how to use them. Nothing secret.

    :param drift: why it has to be admitted anew.
    :param waits: why it serves nobody though it runs.
    :param clock: why its clock has to be set.
    """
    record = host.record
    pki = ctx.pki(record.tenant)
    environment = docker_environment(ctx, record)
    endpoint, certificates = environment["DOCKER_HOST"], environment["DOCKER_CERT_PATH"]
    # Where the declaration names keys, the operator's is not among them.
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
                ["export", *(f"{k}={shlex.quote(v)}" for k, v in environment.items())]
            ),
            "context": context_command(record.name, endpoint, certificates),
        },
        **ctx.provider.facts(record),
    }


def docker_environment(ctx: Context, record: HostRecord) -> dict[str, str]:
    """What Docker's own client takes from its environment to reach a host as the operator."""
    certificates = str(ctx.pki(record.tenant).client_directory)
    endpoint = f"tcp://{record.address}:{DOCKER_PORT}"
    return {"DOCKER_HOST": endpoint, "DOCKER_CERT_PATH": certificates, "DOCKER_TLS_VERIFY": "1"}


def shared_with_template(record: HostRecord) -> list[str]:
    """What a host has in common with its template, and so with every other fork of it."""
    frozen = ["boot_id", "dmi_uuid", "kaslr"] if record.mode == "instant" else []
    # Docker keeps it with its data: where that is a volume's, it is the volume's.
    own = record.spec.engine_identity == "unique" or any(
        use.path == DOCKER_ROOT for use in record.spec.volumes
    )
    return frozen + ([] if own else ["docker_engine_id"])


def ssh_command(record: HostRecord, known_hosts: str, private_key: str) -> str:
    """The line that logs in, with the pinned key and no other."""
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
    """A path as an option of ssh_config(5) wants it: blanks inside quotes, and a percent sign
    doubled.
    """
    found = path.replace("%", "%%")
    if not any(char.isspace() or char in "\"\\'#" for char in found):
        return found
    return '"' + found.replace("\\", "\\\\").replace('"', '\\"') + '"'


def context_command(name: str, endpoint: str, certificates: str) -> str:
    """The line that makes a context for Docker's own client."""
    files = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    options = ",".join(
        [f"host={endpoint}", *(_field(f"{k}={certificates}/{v}") for k, v in files.items())]
    )
    return shlex.join(["docker", "context", "create", name, "--docker", options])


def _field(text: str) -> str:
    """One of several in an option of Docker's, which reads them as a line of CSV."""
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text


def describe_fleet(
    members: Sequence[Host],
    drift: Mapping[str, Sequence[str]],
    outdated: Collection[str] = (),
    behind: Mapping[str, Any] | None = None,
    clocks: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A fleet as modules return it: what its hosts have in common, and how many of them serve.

    :param drift: for each host, by uuid, why it has to be admitted anew.
    :param outdated: hosts, by uuid, that are not of the generation which rules.
    :param behind: for each host, by uuid, what it lacks, where that was asked.
    :param clocks: hosts, by uuid, whose clocks have to be set, each with the reason.
    """
    clocks = clocks or {}
    reasons = {h.record.uuid: [*drift.get(h.record.uuid, ())] for h in members}
    for uuid in reasons.keys() & clocks.keys():
        reasons[uuid].append(clocks[uuid])
    lacks = (
        {}
        if behind is None
        else {"behind": {h.record.name: behind[h.record.uuid] for h in members}}
    )
    newest = max((h.record for h in members), key=lambda r: r.created)
    return {
        "name": newest.fleet,
        "tenant": newest.tenant,
        "template": newest.template,
        "generations": sorted({h.record.generation[:12] for h in members}),
        "hosts": sorted(h.record.name for h in members),
        "ready": sum(h.serving and h.record.uuid not in clocks for h in members),
        "total": len(members),
        "leased": sum(h.record.lease is not None for h in members),
        **lacks,
        "outdated": sorted(h.record.name for h in members if h.record.uuid in outdated),
        "drift": {h.record.name: reasons[h.record.uuid] for h in members if reasons[h.record.uuid]},
    }


def describe_template(ctx: Context, template: Template) -> dict[str, Any]:
    """A template as modules return it."""
    facts = codec.to_dict(template.record)
    return {
        **facts,
        "generation": template.record.generation[:12],
        "usable": template.usable,
        "problem": template.problem,
        **ctx.provider.facts(template.record),
    }
