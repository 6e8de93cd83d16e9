# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parents, siblings and children can be deleted in any order, and nothing of a branch is left.

These tests look at all layers of the storage, so no other branch may exist while they run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from stockyard import BranchSpec, HostInfo, SingleSpec, TemplateInfo, Yard
from tests.helpers.values import present

from . import private_libvirt
from .branched_hosts import chain_of, leftovers, libvirt_of
from .conftest import Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
BRANCHES, LONGEST_CHAIN = 30, 8
# Bytes that are written into a host before each branch. Logs of the guest are written too.
WRITTEN, LOGS = 4 << 20, 12 << 20


@pytest.fixture
def trunk(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    """A host to branch many times."""
    yield yard.hosts.apply(SingleSpec("trunk-2", "docker")).object
    for host in yard.hosts.list():
        if host.name.startswith(("trunk-2", "shoot")):
            yard.hosts.delete(host.name)
    assert leftovers(yard) == set()


@pytest.mark.parametrize(
    "order", list(permutations(("trunk-2", "shoot-1", "shoot-2"))), ids="-".join
)
def test_hosts_are_deleted_in_every_order(
    yard: Yard, docker: Docker, trunk: HostInfo, order: tuple[str, ...]
) -> None:
    """Those that stay serve, and nothing is left at the end."""
    yard.hosts.branch(BranchSpec(trunk.name, ("shoot-1", "shoot-2")))
    for number, name in enumerate(order, 1):
        yard.hosts.delete(name)
        for remaining in order[number:]:
            docker(yard.hosts.get(remaining), "info")
    assert leftovers(yard) == set()


@pytest.mark.parametrize("order", list(permutations(("trunk", "bough", "twig"))), ids="-".join)
def test_generations_are_deleted_in_every_order_with_a_reboot_in_between(
    template: TemplateInfo, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """The bough is a child of the trunk, and the twig of the bough. After a reboot of the
    hypervisor, each host that stays has the data of its ancestors and its own.
    """
    result = private_libvirt.run(
        tmp_path,
        f"""
        import shutil
        from stockyard import BranchSpec

        NAMES, order = ("trunk", "bough", "twig"), {order!r}

        def write(host):
            assert ssh(host, f"echo {{host.name}} >>names && sync").returncode == 0

        with open_yard() as yard:
            write(yard.hosts.apply(SingleSpec("trunk", "docker")).object)
            for parent, child in zip(NAMES, NAMES[1:]):
                write(yard.hosts.branch(BranchSpec(parent, (child,))).object)
            yard.hosts.delete(order[0])
        kill("libvirtd")
        for pid in qemus():
            os.kill(pid, signal.SIGKILL)
        while qemus():
            time.sleep(0.1)
        for path in Path(os.environ["XDG_RUNTIME_DIR"]).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with open_yard() as yard:
            texts, verbs = {{}}, []
            for name in order[1:]:
                applied = yard.hosts.apply(SingleSpec(name, "docker"), timeout=900)
                verbs += [action.verb for action in applied.plan.actions]
                texts[name] = ssh(applied.object, "cat names").stdout.split()
            yard.hosts.delete(order[1])
            last = yard.hosts.get(order[2]).ready, ssh(yard.hosts.get(order[2]), "cat names").stdout
            yard.hosts.delete(order[2])
            reaped = yard.reap().changed
            folders = ("hosts", "branches", "disk-layers")
            files = [str(path) for name in folders for path in (STORE / name).glob("*")]
        print(json.dumps({{
            "verbs": verbs, "texts": texts, "last": last, "reaped": reaped, "files": files,
        }}))
        """,
        timeout=1800,
    )
    names = ("trunk", "bough", "twig")
    texts = {name: list(names[: names.index(name) + 1]) for name in order[1:]}
    assert result["verbs"] == ["start", "start"]
    assert result["texts"] == texts
    assert result["last"] == [True, "".join(f"{name}\n" for name in texts[order[2]])]
    assert (result["reaped"], result["files"]) == (False, [])


def written_bytes(paths: set[Path]) -> int:
    return sum(path.stat().st_blocks * 512 for path in paths)


def test_thirty_branches_in_a_row_leave_a_short_chain(yard: Yard, trunk: HostInfo) -> None:
    """The disk has only what was written to it."""
    store = libvirt_of(yard).store
    folder = store.hosts / trunk.uuid
    before = written_bytes(set(folder.glob("*.qcow2")))
    script = f"head -c {WRITTEN} /dev/urandom >big && sync && sha256sum big"
    checksum = ""
    for number in range(BRANCHES):
        checksum = ssh(trunk, script).stdout
        (child,) = yard.hosts.branch(BranchSpec(trunk.name, ("shoot",))).objects
        assert ssh(child, "sha256sum big").stdout == checksum != ""
        yard.hosts.delete("shoot")
        layers = {path for path in chain_of(yard, trunk) if path.parent == store.disk_layers}
        assert len(layers) <= LONGEST_CHAIN
        assert yard.hosts.get(trunk.name).disk_layers == len(layers)
        assert set(store.disk_layers.iterdir()) == layers
        assert list(store.branches.iterdir()) == []
        after = written_bytes(layers | set(folder.glob("*.qcow2")))
        print(f"branch {number}: {len(layers)} layers, {(after - before) >> 20} MiB more")
        assert after < before + (len(layers) + 1) * (WRITTEN + LOGS)
    assert ssh(trunk, "sha256sum big").stdout == checksum


def content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_no_file_under_the_disk_of_a_child_changes(yard: Yard, trunk: HostInfo) -> None:
    """Neither when its parent is branched again, nor when the chain of the parent is shortened."""
    script = f"head -c {WRITTEN} /dev/urandom >big && sync && sha256sum big"
    checksum = ssh(trunk, script).stdout
    (child,) = yard.hosts.branch(BranchSpec(trunk.name, ("shoot-1",))).objects
    chain = chain_of(yard, child)
    assert libvirt_of(yard).store.disk_layers in {path.parent for path in chain}
    before = {path: content(path) for path in chain}
    depths = []
    for _number in range(LONGEST_CHAIN + 1):
        ssh(trunk, script)
        yard.hosts.branch(BranchSpec(trunk.name, ("shoot-2",)))
        yard.hosts.delete("shoot-2")
        depths.append(present(yard.hosts.get(trunk.name).disk_layers))
    assert depths != sorted(depths), "the chain was not shortened: the test would prove nothing"
    assert chain_of(yard, child) == chain
    assert {path: content(path) for path in chain} == before
    assert ssh(child, "sha256sum big").stdout == checksum != ""
