# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as stockyard writes them, of every kind and with every field in use: strategies for
property tests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from stockyard.model.branch import BranchRecord, BranchVolume, MemoryModule
from stockyard.model.endpoint_record import EndpointRecord
from stockyard.model.host import HostRecord, HostSpec, Identity
from stockyard.model.image import BuildOptions
from stockyard.model.lease import Lease
from stockyard.model.network import PublishSpec
from stockyard.model.platform import Platform
from stockyard.model.pool import PoolRecord, PoolSpec
from stockyard.model.security import SecuritySpec
from stockyard.model.size import Size
from stockyard.model.template import Derivation, Hardware, Source, TemplateRecord
from stockyard.model.volume import Attachment, VolumeRecord, VolumeUse
from tests.helpers.samples import HOST_KEY, host_record, template_record

UUID = "0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"
PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" ")
LINES = st.text(PRINTABLE, max_size=255)
PROSE = st.text(PRINTABLE | st.sampled_from("\n\t"), max_size=500)
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", fullmatch=True)
SERIALS = st.from_regex(r"[0-9a-f]{0,40}", fullmatch=True)
MOMENTS = st.floats(0, 1e11)
UUIDS = st.uuids().map(str)
HOST_KEYS = st.from_regex(r"ssh-ed25519 [A-Za-z0-9+/]{68}", fullmatch=True)
IDENTITIES = st.builds(
    Identity,
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    HOST_KEYS,
    SERIALS,
    MOMENTS,
    LINES,
    st.from_regex(r"([0-9a-f]{64})?", fullmatch=True),
    st.dictionaries(SERIALS, MOMENTS),
    st.booleans(),
    st.from_regex(r"([0-9a-f]{64})?", fullmatch=True),
)
LEASES = st.builds(
    Lease, UUIDS, LINES.map(lambda text: f"job {text}"[:100].rstrip()), MOMENTS, MOMENTS, SERIALS
)
SIZES = st.builds(Size, st.integers(0, 255), st.integers(0, 1 << 20), st.integers(0, 2048))
SPECS = st.builds(HostSpec, ports=st.lists(st.integers(3000, 65535), unique=True).map(tuple))
ENDPOINTS = st.builds(
    EndpointRecord,
    NAMES,
    st.booleans(),
    st.just("/run/user/1000/x.sock"),
    st.sampled_from(("", "127.0.0.1")),
    st.integers(1, 65535),
)
HOSTS = st.builds(
    lambda **fields: replace(host_record(), **fields),
    spec=SPECS,
    labels=st.dictionaries(KEYS, LINES, max_size=5),
    identity=st.none() | IDENTITIES,
    mode_reason=PROSE,
    version=st.integers(1, 10**9),
    lease=st.none() | LEASES,
    expires=MOMENTS,
    size=SIZES,
    endpoint=st.none() | ENDPOINTS,
)
TEMPLATES = st.builds(
    lambda **fields: replace(template_record(), **fields),
    hardware=st.builds(Hardware, vcpus=st.integers(1, 4)),
    created=MOMENTS,
    provision=LINES,
    checksums=st.none() | st.dictionaries(LINES, LINES),
)
HOLDERS = st.builds(Attachment, UUIDS, NAMES, st.just("/data"), st.booleans(), st.booleans())
VOLUMES = st.builds(
    lambda **fields: replace(volume_record(), **fields),
    name=NAMES,
    created=MOMENTS,
    attachment=st.none() | HOLDERS,
    encryption_id=st.just("") | UUIDS,
    labels=st.dictionaries(KEYS, LINES, max_size=3),
)


def volume_record(**changes: Any) -> VolumeRecord:
    """Return a volume as it may be on record."""
    return replace(VolumeRecord("stockyard", "default", "data", UUID, 10, "ready", 1.0), **changes)


def full_host() -> HostRecord:
    """Return a host every field of which is in use."""
    spec = HostSpec(
        ports=(8080,),
        authorized_keys=(f"{HOST_KEY} me@home",),
        egress="proxy",
        egress_proxy="proxy.example:3128",
        pool="gold",
        vcpus=2,
        memory_mib=2048,
        volumes=(VolumeUse("data", "/data", 10, "golden"),),
        publish=PublishSpec("127.0.0.9", "20000-20009"),
    )
    return host_record(
        spec=spec,
        mode="instant",
        mode_reason="why",
        labels={"os/name": "debian"},
        expires=2.0,
        identity=Identity(
            "0" * 32, HOST_KEY, "1f", 2.0, "ABCD:EFGH", "ab" * 32, {"2f": 3.0}, True, "cd" * 32
        ),
        lease=Lease(UUID, "job-17", 1.0, 2.0, "3f"),
        size=Size(1, 2, 3),
        template_size=Size(1, 2, 3),
        max_size=Size(4, 5, 6),
        branch=UUID,
        publish_ports=(20000, 20001, 20002),
    )


def full_branch() -> BranchRecord:
    """Return a branch every field of which is in use."""
    host, template = host_record(), template_record()
    return BranchRecord(
        owner=host.owner,
        tenant=host.tenant,
        name=host.name,
        uuid=UUID,
        parent=host.uuid,
        template=host.template,
        generation=host.generation,
        image=template.image,
        hardware=template.hardware,
        phase="frozen",
        created=1.0,
        mac=host.mac,
        max_memory_mib=4096,
        added_vcpus=1,
        modules=(MemoryModule(1, 128, 0x108000000, 2),),
        volumes=(BranchVolume("data", UUID, "/srv/data", 10, port=5, layer=host.uuid),),
        checksums={"ram": "ab" * 32, "stamp:ram": "1024:17"},
        pause_ms=28.5,
    )


def full_template() -> TemplateRecord:
    """Return a template every field of which is in use."""
    source = Source("trixie", ("docker.io",), BuildOptions(mirror="http://deb.example/debian"))
    return template_record(
        checksums={"ram": "ab" * 32, "stamp:ram": "1024:17"},
        source=source,
        provision="playbook warm.yml",
        from_host="web-1",
        disk_gib=8,
        options="cd" * 32,
        security=SecuritySpec("shared"),
        derivation=Derivation("base", "ef" * 32, {"git": "1:2.47.3-0+deb13u1"}),
        platform=Platform("7.2.22", "pc-q35-7.2", "kvm", "EPYC", ("!svm", "ssbd"), "6.1", "0x1"),
    )


def full_pool() -> PoolRecord:
    """Return a pool every field of which is in use."""
    return PoolRecord("stockyard", UUID, PoolSpec("gold", parent="all", hosts=3), 1.0, 1)


def full_volume() -> VolumeRecord:
    """Return a volume every field of which is in use."""
    return volume_record(
        attachment=Attachment(UUID, "web-1", "/data"),
        source="golden",
        encryption_id=UUID,
        filesystem="ext4",
    )
