# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages move: who is behind is shown, a rebuild rolls the hosts, and a bad one stops while the
old ones serve.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stockyard import Yard
from stockyard.model import codec
from stockyard.model.versions import MissingUpdate

from .conftest import CHECKOUT, OWNER, WORK, Docker, ssh
from .package_repository import LocalRepository
from .test_faults import kill_daemons

pytestmark = [pytest.mark.real, pytest.mark.full]
PACKAGE = "stockyard-probe"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRepository]:
    """With the first version of a package in it."""
    local_repository = LocalRepository(tmp_path_factory.mktemp("repository"))
    local_repository.publish(PACKAGE, "1.0", {"usr/share/stockyard-probe/version": "1.0\n"})
    yield local_repository
    local_repository.close()


@pytest.fixture(scope="module")
def declaration(repository: LocalRepository, yard: Yard) -> Iterator[Path]:
    """A yard whose template has that package."""
    template = {
        "name": "probed",
        "packages": ["busybox-static", PACKAGE],
        "keep_generations": 1,
        "repositories": [codec.to_dict(repository.declared)],
    }
    fleet = {
        "name": "probed",
        "template": "probed",
        "count": 2,
        "update": {"max_surge": 1, "max_unavailable": 0},
    }
    declared = {
        "yard_owner": OWNER,
        "yard_storage": f"{WORK}/store",
        "yard_pki_dir": f"{WORK}/pki",
        "yard_templates": [template],
        "yard_fleets": [fleet],
    }
    path = WORK / "probed.yml"
    path.write_text(yaml.safe_dump(declared))
    yield path
    yard.fleets.delete("probed")
    yard.templates.delete("probed")


def play(name: str, declaration: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [
        f"{CHECKOUT}/hack/playbook.sh",
        name,
        "-e",
        f"yard={declaration}",
        "-e",
        "yard_prune=no",
        *arguments,
    ]
    return subprocess.run(line, capture_output=True, text=True, timeout=1800, check=False)


def well(result: subprocess.CompletedProcess[str]) -> int:
    """How many things it changed."""
    match = re.search(r"changed=(\d+) .*failed=0", result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert match, result.stdout
    return int(match[1])


def versions(yard: Yard) -> dict[str, str]:
    """Return the version of the package in each host, as the host reports it."""
    versions = {}
    for host in yard.hosts.list(fleet="probed"):
        assert host.ready
        versions[host.name] = ssh(host, "cat", "/usr/share/stockyard-probe/version").stdout.strip()
    return versions


def missing_updates(yard: Yard) -> list[tuple[MissingUpdate, ...] | None]:
    return [h.missing_updates for h in yard.hosts.list(fleet="probed", check_updates=True)]


def test_a_package_of_ones_own_is_in_the_hosts(yard: Yard, declaration: Path) -> None:
    assert well(play("site", declaration)) == 1
    assert versions(yard) == {"probed-1": "1.0", "probed-2": "1.0"}
    assert missing_updates(yard) == [(), ()]
    assert well(play("rebuild", declaration, "--check")) == 0


@pytest.mark.usefixtures("session_alone")
def test_later_package_is_reported_and_rolled_over_a_killed_daemon(
    yard: Yard, declaration: Path, repository: LocalRepository
) -> None:
    old = {h.uuid for h in yard.hosts.list(fleet="probed")}
    repository.publish(PACKAGE, "1.1", {"usr/share/stockyard-probe/version": "1.1\n"})
    update = MissingUpdate(PACKAGE, "1.0", "1.1")
    assert missing_updates(yard) == [(update,), (update,)]
    dry_run = play("rebuild", declaration, "--check", "--diff")
    assert well(dry_run) == 1
    assert PACKAGE in dry_run.stdout
    assert {h.uuid for h in yard.hosts.list(fleet="probed")} == old

    killed = threading.Thread(target=kill_daemons_when_a_new_host_is_there, args=(old,))
    killed.start()
    first = play("rebuild", declaration)
    killed.join()
    # It may have lost its connection in the middle of making a host; no other was lost, and another
    # run makes it whole.
    assert old <= {h.uuid for h in yard.hosts.list(fleet="probed") if h.state == "running"}, (
        first.stdout
    )
    well(play("rebuild", declaration))
    assert set(versions(yard).values()) == {"1.1"}
    assert len(yard.hosts.list(fleet="probed")) == 2
    assert missing_updates(yard) == [(), ()]
    assert not old & {h.uuid for h in yard.hosts.list(fleet="probed")}
    assert well(play("rebuild", declaration)) == 0


def kill_daemons_when_a_new_host_is_there(old: set[str]) -> None:
    """SIGKILL for the session's libvirtd as soon as the first new host is on record."""
    with Yard(
        "qemu:///session", owner=OWNER, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")
    ) as own_yard:
        end = time.monotonic() + 1200
        while (
            not {h.uuid for h in own_yard.hosts.list(fleet="probed")} - old
            and time.monotonic() < end
        ):
            time.sleep(0.2)
    kill_daemons()


def test_a_bad_one_stops_after_one_host_and_the_old_ones_serve(
    yard: Yard, declaration: Path, repository: LocalRepository, docker: Docker
) -> None:
    """Its forks cannot take their identity: something is in the way of one of its files."""
    old = {h.uuid: h for h in yard.hosts.list(fleet="probed")}
    bad = {"usr/share/stockyard-probe/version": "1.2\n", "etc/hosts.new/in-the-way": ""}
    repository.publish(PACKAGE, "1.2", bad)
    result = play("rebuild", declaration)
    assert result.returncode != 0
    spoken_of = set(re.findall(r"host (probed-\d+): ", result.stdout))
    assert len(spoken_of - {h.name for h in old.values()}) == 1, result.stdout
    assert {h.uuid for h in yard.hosts.list(fleet="probed") if h.ready} == old.keys()
    for host in old.values():
        assert docker(host, "version").returncode == 0
    repository.publish(PACKAGE, "1.3", {"usr/share/stockyard-probe/version": "1.3\n"})
    well(play("rebuild", declaration))
    assert set(versions(yard).values()) == {"1.3"}
