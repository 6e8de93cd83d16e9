# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian 13 as hypervisor and controller: the demo from nothing, and each kind of object, on a
system that has the packages of bindep.txt and nothing else; and an upgrade from Debian 12.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.helpers import debian_system
from tests.helpers.debian_system import DebianSystem
from tests.helpers.uplink_lab import ENTER

from .test_identity import DISTINCT

pytestmark = [pytest.mark.real, pytest.mark.full]
Facts = dict[str, Any]
# Each part of a script prints a line with its name and its result; make prints other lines.
PRELUDE = """
set -o pipefail
part() { local result; result=$("${@:2}"); echo "=$1 $result"; }
smoke() { part "$1" .venv/bin/python -m tests.e2e.smoke "$1"; }
version() { "$@" --version | head -n 1; }
demo() {
  local begin=$SECONDS
  make demo >~/demo.log 2>&1 || { cat ~/demo.log; return 1; }
  echo "$(grep -o 'changed=[0-9]*' ~/demo.log | tail -n 1) $((SECONDS - begin))"
}
container() { make endpoint ARGS='--rm busybox hostname' | grep -xE '[0-9a-f]{12}'; }
for program in python3 qemu-system-x86_64 /usr/sbin/libvirtd; do part version version $program; done
make setup
"""
RUNS = "part demo demo; part demo demo\n"
USE = "smoke everything; part container container; make teardown; smoke remaining"
# The first process of the namespaces reaps the processes of others.
REAPER = ("sh", "-c", '"$@"; exit $?', "sh")
WAY_OUT = "PATH+=:/usr/sbin; part way_out {} .venv/bin/python -m tests.e2e.smoke way_out"
NAMESPACES = shlex.join((*ENTER, "--kill-child", "--pid", "--fork", "--mount-proc", *REAPER))


@contextmanager
def systems(*suites: str) -> Iterator[list[DebianSystem]]:
    """Yield systems of these releases, or skip the tests."""
    if os.geteuid() == 0:
        pytest.skip("libvirt's session is for ordinary users: run `make test`, which drops to one")
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is not installed: run `make setup`")
    with debian_system.prepared(*suites) as prepared:
        for system in prepared:
            updated = system.run("apt-get update", user="root")
            assert updated.returncode == 0, updated.stdout + updated.stderr
        yield prepared


@pytest.fixture(scope="module")
def system() -> Iterator[DebianSystem]:
    """Debian 13."""
    with systems("trixie") as prepared:
        yield prepared[0]


def results(process: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """Return the results of the parts of a script."""
    output = process.stdout + process.stderr
    assert process.returncode == 0, output[-6000:]
    parts: dict[str, list[str]] = {}
    for name, text in re.findall(r"^=(\w+) (.*)$", process.stdout, re.MULTILINE):
        parts.setdefault(name, []).append(text)
    return parts


@pytest.fixture(scope="module")
def demo(system: DebianSystem) -> dict[str, list[str]]:
    """The demo and its objects, from nothing."""
    begin, load = time.monotonic(), os.getloadavg()[0]
    parts = results(system.run(f"{PRELUDE}{RUNS}{USE}", timeout=3600))
    print(f"\n{parts['version']}, load {load:.1f} to {os.getloadavg()[0]:.1f}")
    print(f"make demo, changes and seconds: {parts['demo']}")
    print(f"all: {time.monotonic() - begin:.0f} s")
    return parts


def facts(parts: dict[str, list[str]], name: str) -> Facts:
    """Return the result of a part that prints JSON."""
    return dict(json.loads(parts[name][0]))


def test_tools_are_those_of_debian_13(demo: dict[str, list[str]]) -> None:
    python, qemu, libvirt = demo["version"]
    assert python.startswith("Python 3.13.")
    assert "version 10.0." in qemu
    assert libvirt.endswith(" 11.3.0")


def test_second_run_of_the_demo_changes_nothing(demo: dict[str, list[str]]) -> None:
    assert demo["demo"][0].startswith("changed=1 ")
    assert demo["demo"][1].startswith("changed=0 ")


def test_hosts_are_forks_with_different_identities(demo: dict[str, list[str]]) -> None:
    used = facts(demo, "everything")
    assert used["ready"] == ["web-1", "web-2", "web-3"]
    assert used["mode"] == ["instant"] * 3
    assert used["distinct"] == [3] * len(DISTINCT)


def test_all_frozen_files_are_read_only(demo: dict[str, list[str]]) -> None:
    """QEMU 7.2 of Debian 12 needs a RAM file that it can write."""
    assert facts(demo, "everything")["frozen"] == ["400"] * 3


def test_docker_answers_over_mutual_tls(demo: dict[str, list[str]]) -> None:
    assert facts(demo, "everything")["docker"] == [True] * 3


def test_volume_keeps_its_data(demo: dict[str, list[str]]) -> None:
    assert facts(demo, "everything")["volume"] == ["first", "first second"]


def test_branch_has_the_memory_of_its_parent(demo: dict[str, list[str]]) -> None:
    assert facts(demo, "everything")["branch"] == ["kept", "twig", "trunk"]


def test_lease_opens_one_host(demo: dict[str, list[str]]) -> None:
    used = facts(demo, "everything")
    assert used["lease"] == [True, True]
    assert used["released"]


def test_container_of_an_endpoint_runs(demo: dict[str, list[str]]) -> None:
    assert re.fullmatch("[0-9a-f]{12}", demo["container"][0]), "no short ID of a container"


def test_teardown_leaves_nothing(demo: dict[str, list[str]]) -> None:
    objects = facts(demo, "remaining")
    # The network is the machine's, on which other hosts can listen.
    listening = set(objects.pop("listening"))
    assert listening.isdisjoint(facts(demo, "everything")["addresses"])
    assert not any(objects.values()), objects


def test_host_with_open_egress_reaches_other_machines_by_name(
    system: DebianSystem, demo: dict[str, list[str]]
) -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user (udev gives it 0666)")
    used = facts(results(system.run(PRELUDE + WAY_OUT.format(NAMESPACES))), "way_out")
    assert used["ready"]
    assert used["processes"] == 3
    assert used["named"][0] == str(16 << 20)
    assert "No route to host" in used["private"][0], "a private address is rejected"
    assert used["left"] == 0


def test_upgrade_from_debian_12_builds_a_template_and_replaces_hosts() -> None:
    with systems("bookworm", "trixie") as (before, after):
        old = results(before.run(f"{PRELUDE}{RUNS}smoke state; smoke save_templates"))
        steps = f"smoke state; {RUNS}smoke state; smoke load_templates"
        new = results(after.run(f"{PRELUDE}{steps}"))
    assert "version 7.2." in old["version"][1]
    assert "version 10.0." in new["version"][1]
    upgraded, current = map(json.loads, new["state"])
    former = json.loads(old["state"][0])
    (frozen,) = former["templates"]
    ((name, facts_of_drift),) = upgraded["templates"].items()
    print(f"\ndrift after the upgrade: {facts_of_drift}; make demo: {new['demo']}")
    assert name == frozen
    assert "emulator" in facts_of_drift
    assert new["demo"][0].startswith("changed=1 ")
    assert new["demo"][1].startswith("changed=0 ")
    # The former generation is retained, and no host uses it.
    assert current["templates"].pop(name) == facts_of_drift
    assert list(current["templates"].values()) == [[]]
    assert len(former["machines"]) == 3
    assert set(former["machines"]).isdisjoint(current["machines"])
    assert current["hosts"] == {f"web-{number}": "instant" for number in (1, 2, 3)}
    loaded = facts(new, "load_templates")
    print(f"loaded: {loaded}")
    # Other features of the processor: the memory is refused, and the disk boots.
    assert "feature" in loaded["docker"]["refusal"]
    assert loaded["docker"]["mode"] == "linked"
    assert "feature" in loaded["docker"]["reason"]
    # A declared model is the same on both.
    assert (loaded["portable"]["mode"], loaded["portable"]["refusal"]) == ("instant", "")
    assert "Westmere" in loaded["portable"]["processor"]
    for name in ("docker", "portable"):
        assert loaded[name]["hostname"] == f"on-{name}"
        assert re.match(r"\d+\.", loaded[name]["docker"])
