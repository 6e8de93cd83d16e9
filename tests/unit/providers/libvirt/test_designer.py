# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domains that are defined, to the letter.

The files in golden/ were reviewed. To write them after an intended change, and to review them::

    STOCKYARD_WRITE_GOLDEN=1 make test ARGS="tests/unit/providers/libvirt/test_designer.py"
    git diff tests/unit/providers/libvirt/golden

As root the target works in a copy of the checkout: run pytest itself there, as an ordinary user.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.errors import InvalidInput
from stockyard.hypervisor.records import decode, decode_branch
from stockyard.model.branch import BranchRecord, BranchVolume, MemoryModule
from stockyard.model.host import HostRecord, HostSpec
from stockyard.model.network import PublishSpec
from stockyard.model.size import Size
from stockyard.model.template import Hardware, TemplateRecord
from stockyard.providers.libvirt import designer, machine
from stockyard.providers.libvirt.images import Image
from stockyard.providers.libvirt.machine import Machine
from stockyard.providers.libvirt.xml.devices import Disk
from stockyard.providers.libvirt.xml.domain import Domain
from stockyard.providers.libvirt.xml.element import (
    BRANCH_NS,
    QEMU_NS,
    RECORD_NS,
    element,
    parse,
    serialize,
)
from tests.helpers.record_strategies import KEYS, LINES
from tests.helpers.samples import host_record, template_record

GOLDEN = Path(__file__).parent / "golden"
STORE = Path("/store")
IMAGE = Image(
    STORE / "images/i/disk.qcow2", STORE / "images/i/vmlinuz", STORE / "images/i/initrd.img"
)
HARDWARE = Hardware(vcpus=2, max_vcpus=4, memory_mib=1536, spare_ports=2)
HOST = host_record(
    uuid="11111111-2222-4333-8444-555555555555",
    mac="52:54:00:aa:bb:cc",
    address="127.64.1.2",
    phase="creating",
    spec=HostSpec(ports=(8080, 443)),
    labels={"note": "a'/><qemu:arg value='-x"},
    max_size=Size(4, 3072),
)
IN_NETWORK = replace(
    HOST, address="192.168.122.9", spec=HostSpec(ports=(8080,), network="default", egress="open")
)
TEMPLATE = template_record(
    uuid="66666666-7777-4888-8999-000000000000",
    mac="52:54:00:00:11:22",
    hardware=HARDWARE,
    phase="booting",
    max_memory_mib=3072,
)
BRANCH = BranchRecord(
    owner=HOST.owner,
    tenant=HOST.tenant,
    name=HOST.name,
    uuid="77777777-8888-4999-8aaa-bbbbbbbbbbbb",
    parent=HOST.uuid,
    template=HOST.template,
    generation=HOST.generation,
    image="0" * 64,
    hardware=HARDWARE,
    phase="creating",
    created=1.0,
    mac=HOST.mac,
    max_memory_mib=3072,
    added_vcpus=1,
    modules=(MemoryModule(0, 128, 0x100000000, 0), MemoryModule(1, 128, 0x108000000, 1)),
    volumes=(
        BranchVolume(
            "data",
            "99999999-8888-4999-8aaa-bbbbbbbbbbbb",
            "/data",
            2,
            port=4,
            layer="aaaaaaaa-8888-4999-8aaa-bbbbbbbbbbbb",
        ),
    ),
)
COPY = Disk(str(STORE / "volumes/c/disk.qcow2"), "vdb", "c" * 20, discard=True, port=4)
TCG, KVM = Machine("qemu", 4, "pc-q35-7.2"), Machine("kvm", 2, "pc-q35-7.2")


def shapes() -> dict[str, Domain]:
    """One of every kind of domain."""
    home, frozen = STORE / "hosts" / HOST.uuid, STORE / "templates" / TEMPLATE.uuid
    branch = STORE / "branches" / BRANCH.uuid
    return {
        "template": designer.template(
            TEMPLATE, Machine("qemu", 4, reports_panic=True), IMAGE, frozen
        ),
        "derived": designer.derived_template(TEMPLATE, TCG, IMAGE, frozen),
        "tombstone": designer.frozen_domain(TEMPLATE, TCG, IMAGE, frozen),
        "cold": designer.boot_domain(HOST, HARDWARE, KVM, IMAGE, home),
        "incoming": designer.restore_domain(HOST, HARDWARE, TCG, IMAGE, home, frozen / "ram"),
        "child": designer.child_domain(HOST, BRANCH, KVM, IMAGE, home, branch, [COPY]),
        "network": designer.restore_domain(IN_NETWORK, HARDWARE, TCG, IMAGE, home, frozen / "ram"),
    }


def branch_shapes() -> dict[str, Domain]:
    """The domains of a branch."""
    folder = STORE / "branches" / BRANCH.uuid
    return {
        "twin": designer.twin_domain(BRANCH, KVM, IMAGE, folder),
        "branch": designer.branch_domain(BRANCH, KVM, IMAGE, folder),
    }


def pretty(shape: Domain) -> str:
    root = shape.xml()
    ElementTree.indent(root)
    return serialize(root) + "\n"


@pytest.mark.parametrize(
    "kind",
    ["template", "derived", "tombstone", "cold", "incoming", "network", "child", "twin", "branch"],
)
def test_domain_equals_the_reviewed_definition(kind: str) -> None:
    path, definition = GOLDEN / f"{kind}.xml", pretty({**shapes(), **branch_shapes()}[kind])
    if os.environ.get("STOCKYARD_WRITE_GOLDEN"):
        path.write_text(definition)
    assert definition == path.read_text()


def arguments(shape: Domain) -> list[str]:
    """QEMU's own arguments, as libvirt will read them."""
    return [
        argument.get("value", "")
        for argument in parse(serialize(shape.xml())).iter(f"{{{QEMU_NS}}}arg")
    ]


def record_in(shape: Domain) -> HostRecord | TemplateRecord:
    record = parse(serialize(shape.xml())).find(f"./metadata/{{{RECORD_NS}}}record")
    assert record is not None
    return decode(record.text or "")


def test_the_record_is_in_the_metadata() -> None:
    assert [record_in(shape) for shape in shapes().values()] == [
        TEMPLATE,
        TEMPLATE,
        TEMPLATE,
        HOST,
        HOST,
        HOST,
        IN_NETWORK,
    ]


@given(st.dictionaries(KEYS, LINES))
def test_record_in_a_domain_is_escaped_and_read_unchanged(
    labels: dict[str, str],
) -> None:
    record = host_record(labels=labels, max_size=HOST.max_size)
    shape = designer.boot_domain(record, HARDWARE, TCG, IMAGE, STORE)
    assert record_in(shape) == record
    assert len(list(shape.xml().iter())) == len(list(shapes()["cold"].xml().iter()))


def test_a_host_keeps_its_machine_between_fork_and_boot() -> None:
    all_shapes = shapes()
    fork, boot = (
        all_shapes["incoming"],
        designer.boot_domain(HOST, HARDWARE, TCG, IMAGE, STORE / "hosts" / HOST.uuid),
    )
    assert boot.arguments[-4:] == (
        "-object",
        "memory-backend-ram,id=ram0,size=1536M",
        "-machine",
        "memory-backend=ram0",
    )
    common = boot.arguments[:-4]
    assert fork.arguments[: len(common)] == common
    assert "memory-backend=ram0" in fork.arguments
    assert serialize(boot.xml()) == serialize(replace(fork, arguments=boot.arguments).xml())


def test_a_branch_has_a_record_that_no_observation_of_hosts_contains() -> None:
    for shape in branch_shapes().values():
        metadata = parse(serialize(shape.xml())).find("./metadata")
        assert metadata is not None
        assert [child.tag for child in metadata] == [f"{{{BRANCH_NS}}}record"]
        assert decode_branch(metadata[0].text or "") == BRANCH


def test_a_twin_has_the_devices_of_its_parent_and_no_connection() -> None:
    twin, host = branch_shapes()["twin"], shapes()["cold"]
    volume_disks = [Disk] * len(BRANCH.volumes)
    assert [type(device) for device in twin.devices] == [
        *(type(device) for device in host.devices),
        *volume_disks,
    ]
    assert not any("hostfwd" in argument for argument in twin.arguments)
    assert not any("share=off" in argument for argument in twin.arguments)
    disk = parse(serialize(twin.xml())).find("./devices/disk/source")
    assert disk is not None
    assert disk.get("file", "").endswith("/scratch.qcow2")


def test_child_has_the_machine_and_the_added_devices_of_its_parent() -> None:
    child, twin, defined = shapes()["child"], branch_shapes()["twin"], branch_shapes()["branch"]
    assert [(shape.vcpus, shape.added_vcpus) for shape in (child, twin, defined)] == [
        (2, 1),
        (2, 1),
        (2, 0),
    ]
    for shape in (child, twin, defined):
        assert machine.frozen(serialize(shape.xml())) == KVM


def test_a_child_maps_the_memory_of_its_branch_privately() -> None:
    arguments_of_child = shapes()["child"].arguments
    files = [argument for argument in arguments_of_child if "mem-path" in argument]
    assert [argument.rpartition("mem-path=")[2] for argument in files] == [
        f"/store/branches/{BRANCH.uuid}/{name},share=off" for name in ("ram", "ram-0", "ram-1")
    ]
    assert arguments_of_child[-2:] == ("-incoming", "defer")


def test_only_a_template_that_boots_writes_to_its_ram_file() -> None:
    ram = {
        kind: [a for a in arguments(shape) if "memory-backend-file" in a]
        for kind, shape in shapes().items()
    }
    assert [("share=on" in a, "share=off" in a) for a in ram["template"]] == [(True, False)]
    for kind in ("incoming", "network"):
        assert [("share=on" in a, "share=off" in a) for a in ram[kind]] == [(False, True)]
    assert (ram["tombstone"], ram["cold"]) == ([], [])


@pytest.mark.parametrize(
    ("read_only", "expected"),
    [(False, "share=off"), (True, "share=off,readonly=on,rom=off")],
)
def test_frozen_ram_is_mapped_from_a_read_only_file_if_qemu_can(
    read_only: bool, expected: str
) -> None:
    mapping = designer.private_mapping(read_only)
    fork = designer.restore_domain(HOST, HARDWARE, TCG, IMAGE, STORE, Path("/ram"), mapping)
    child = designer.child_domain(HOST, BRANCH, KVM, IMAGE, STORE, STORE, (), mapping)
    backends = [
        value for shape in (fork, child) for value in arguments(shape) if "backend-file" in value
    ]
    assert len(backends) == 2 + len(BRANCH.modules)
    assert all(backend.endswith(f",{expected}") for backend in backends)


def test_comma_in_a_path_adds_no_option_of_qemu() -> None:
    shape = designer.restore_domain(HOST, HARDWARE, TCG, IMAGE, STORE, Path("/a,share=on/ram"))
    (ram,) = [a for a in arguments(shape) if "memory-backend-file" in a]
    assert "mem-path=/a,,share=on/ram," in ram


def test_no_domain_has_a_balloon() -> None:
    for shape in shapes().values():
        (balloon,) = parse(serialize(shape.xml())).findall("./devices/memballoon")
        assert balloon.get("model") == "none"


def test_an_emulated_machine_has_all_processors_and_its_guest_uses_those_of_the_template() -> None:
    domains = {kind: parse(serialize(shape.xml())) for kind, shape in shapes().items()}
    plugged_in = {kind: root.find("./vcpu") for kind, root in domains.items()}
    assert {kind: vcpu.get("current") for kind, vcpu in plugged_in.items() if vcpu is not None} == {
        kind: {"cold": "2", "child": "3"}.get(kind, "4") for kind in domains
    }
    assert {kind for kind, root in domains.items() if "maxcpus=2" in _cmdline(root)} == {
        "template",
        "derived",
        "tombstone",
        "incoming",
        "network",
    }


@pytest.mark.parametrize(("processors", "expected"), [(TCG, True), (KVM, False)])
def test_only_the_kernel_of_an_emulated_machine_avoids_cmpxchg16b(
    processors: Machine, expected: bool
) -> None:
    domain = designer.restore_domain(HOST, HARDWARE, processors, IMAGE, STORE, Path("/ram"))
    assert ("clearcpuid=141" in _cmdline(parse(serialize(domain.xml())))) is expected


@pytest.mark.parametrize("encrypted", [True, False])
def test_only_the_kernel_of_a_machine_with_encrypted_data_zeroes_freed_memory(
    encrypted: bool,
) -> None:
    host, base = replace(HOST, encrypted=encrypted), replace(TEMPLATE, encrypted=encrypted)
    for domain in (
        designer.template(base, KVM, IMAGE, STORE),
        designer.boot_domain(host, HARDWARE, KVM, IMAGE, STORE),
    ):
        assert ("init_on_free=1" in _cmdline(parse(serialize(domain.xml())))) is encrypted


def _cmdline(root: ElementTree.Element) -> list[str]:
    return (root.findtext("./os/cmdline") or "").split()


def test_a_template_publishes_nothing_and_a_host_only_on_its_own_address() -> None:
    for kind, shape in shapes().items():
        if kind == "network":
            assert not [a for a in arguments(shape) if a.startswith("user,")]
            continue
        if kind in ("template", "derived", "tombstone"):
            assert "hubport,id=net0,hubid=0" in arguments(shape)
            assert not [a for a in arguments(shape) if a.startswith("user,")]
            continue
        (netdev,) = [a for a in arguments(shape) if a.startswith("user,")]
        rules = [part for part in netdev.split(",") if part.startswith("hostfwd=")]
        assert "restrict=on" in netdev.split(",")
        assert rules == [
            f"hostfwd=tcp:127.64.1.2:{ports}"
            for ports in ("443-:443", "2222-:22", "2376-:2376", "8080-:8080")
        ]


def test_ports_are_published_where_they_are_bound_and_the_fixed_ones_stay() -> None:
    bound = replace(HOST, spec=HostSpec(ports=(8080,), bind="0.0.0.0"))  # noqa: S104
    shape = designer.boot_domain(bound, HARDWARE, TCG, IMAGE, STORE)
    (netdev,) = [a for a in arguments(shape) if a.startswith("user,")]
    rules = [
        part.removeprefix("hostfwd=tcp:")
        for part in netdev.split(",")
        if part.startswith("hostfwd=")
    ]
    assert rules == ["127.64.1.2:2222-:22", "127.64.1.2:2376-:2376", "0.0.0.0:8080-:8080"]


def test_published_host_has_forwards_at_both_addresses() -> None:
    spec = HostSpec(ports=(8080,), publish=PublishSpec("192.0.2.10"))
    published = replace(HOST, spec=spec, publish_ports=(20000, 20001, 20002))
    shape = designer.boot_domain(published, HARDWARE, TCG, IMAGE, STORE)
    (netdev,) = [a for a in arguments(shape) if a.startswith("user,")]
    rules = [
        part.removeprefix("hostfwd=tcp:")
        for part in netdev.split(",")
        if part.startswith("hostfwd=")
    ]
    assert rules == [
        "127.64.1.2:2222-:22",
        "127.64.1.2:2376-:2376",
        "127.64.1.2:8080-:8080",
        "192.0.2.10:20000-:22",
        "192.0.2.10:20001-:2376",
        "192.0.2.10:20002-:8080",
    ]


def test_network_device_of_a_fork_has_the_address_of_the_template() -> None:
    all_shapes = shapes()
    (device,) = [a for a in arguments(all_shapes["template"]) if a.startswith("virtio-net-pci")]
    (address,) = parse(serialize(all_shapes["network"].xml())).findall(
        "./devices/interface/address"
    )
    assert f"addr={address.get('slot')}" in device.split(",")
    assert address.get("bus") == "0x00"


@pytest.mark.parametrize("text", ["a\0b", "\x1b[0m", "\ufffe", "\ud800"])
def test_text_that_xml_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="XML"):
        element("a", text=text)
    with pytest.raises(InvalidInput, match="XML"):
        element("a", name=text)


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"])),
    st.text("<>&'\"\n\t \\$`"),
)
def test_an_element_carries_text_faithfully(text: str, attribute: str) -> None:
    parsed = parse(serialize(element("a", text=text, name=attribute)))
    assert (parsed.text or "") == text
    assert parsed.get("name") == attribute
    assert list(parsed) == []


def test_machine_has_memory_slots_only_if_it_can_grow() -> None:
    assert "-m" not in arguments(
        designer.boot_domain(replace(HOST, max_size=Size(4)), HARDWARE, TCG, IMAGE, STORE)
    )
    command_line = arguments(designer.boot_domain(HOST, HARDWARE, TCG, IMAGE, STORE))
    assert command_line[command_line.index("-m") + 1] == "slots=16,maxmem=3072M"


@pytest.mark.parametrize("features", [(), machine.SLOW_IF_EMULATED])
def test_a_frozen_template_names_the_features_and_devices_of_its_machine(
    features: tuple[str, ...],
) -> None:
    origin = Machine(
        "qemu",
        4,
        "pc-q35-7.2",
        features,
        reports_panic=bool(features),
        has_uplink=bool(features),
    )
    domain = designer.template(template_record(), origin, IMAGE, STORE)
    assert machine.frozen(serialize(domain.xml())) == origin


def test_named_processor_must_be_available_completely() -> None:
    named = Machine("kvm", 2, "pc-q35-7.2", cpu_model="Nehalem", disabled_features=("erms",))
    xml = designer.template(TEMPLATE, named, IMAGE, STORE).xml()
    cpu = xml.find("cpu")
    assert cpu is not None
    assert cpu.attrib == {"mode": "custom", "match": "exact", "check": "partial"}
    assert [(item.tag, item.get("fallback"), item.text) for item in cpu][:1] == [
        ("model", "forbid", "Nehalem")
    ]
    assert [item.get("name") for item in cpu.findall("feature")] == ["erms"]
