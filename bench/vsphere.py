# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time of forks, reads and whole plays on a simulated vCenter, compared with their components and
with the tools that they replace.

All figures come from one run, one simulator and one machine. Compare them with each other, not with
those of another machine or of a real vCenter.

fleet      one fleet through the SDK, compared with a loop of plain pyvmomi that makes the same
           calls with the same parallelism
observe    everything of a yard, compared with a bare bulk read of the same machines
play       site.yml for that fleet, compared with community.vmware.vmware_guest_instant_clone in a
           loop, scaled from a few

The last comparison needs an environment with the PyPI package `ansible`, which contains
community.vmware:

    python3 -m venv DIR && DIR/bin/pip install ansible pyvmomi requests cryptography
    make bench ARGS="vsphere --ansible DIR"
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from tests.vcsim.plain_pyvmomi import Loop
from tests.vcsim.simulator import SOURCE, Simulator
from tests.vcsim.test_site import SITE, VsphereController
from tests.vcsim.test_speed import bulk_read, make_hosts

from .book import Book
from .options import Options

BOUNDS = {"fleet / loop": 1.5, "observe / bulk read": 2.0, "play / community": 0.05}
MODULE = "community.vmware.vmware_guest_instant_clone"
# The number of clones for the measurement of the community's module.
ITEMS = 10


def measure(book: Book, options: Options) -> None:
    """Measure each subject together with its reference."""
    count, samples = (50, 3) if options.full else (20, 2)
    results = {
        **forks(count, samples),
        **readings(samples),
        **plays(count, ITEMS, options.ansible, samples),
    }
    for name, durations in results.items():
        book.note(name, "s", *durations)
    for name, bound in BOUNDS.items():
        measured, _slash, reference = name.partition(" / ")
        book.ratio(measured, reference, most=bound)


def seconds(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def opened(vcenter: Simulator) -> Yard:
    """Return a yard on a simulator. Only this process knows the simulator's password."""
    os.environ.update(vcenter.environment)
    return Yard(vcenter.uri + "?endpoints=false", pki_dir=str(vcenter.directory / "pki"))


def forks(count: int, samples: int) -> dict[str, list[float]]:
    """Measure a fleet and the same calls in a loop, alternately."""
    results: dict[str, list[float]] = {"fleet": [], "loop": []}
    with Simulator() as vcenter, opened(vcenter) as yard:
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        (template,) = yard.context.provider.observe("stockyard").templates
        register = vcenter.find("stockyard/stockyard-register")._moId
        for _sample in range(samples):
            vcenter.reset()
            results["fleet"].append(
                seconds(lambda: yard.fleets.apply(FleetSpec("web", template="base", count=count)))
            )
            log, calls = vcenter.log(), vcenter.calls()
            loop = Loop(
                vcenter,
                f"DC0/vm/stockyard/{template.record.domain}",
                yard.context.provider.capabilities.parallel,
            )
            results["loop"].append(loop.make(count, calls, log, register))
            vcenter.clear(loop.folder)
            yard.fleets.delete("web")
    return results


def readings(samples: int) -> dict[str, list[float]]:
    """Measure the observation of a thousand hosts and a bulk read."""
    with Simulator() as vcenter, opened(vcenter) as yard:
        provider, instance = yard.context.provider, vcenter.connect()
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        template = provider.observe("stockyard").templates[0].record
        source = vcenter.find(f"stockyard/{template.domain}")
        make_hosts(vcenter, source, template.generation)
        provider.observe("stockyard")
        return {
            "observe": [
                seconds(lambda: provider.observe("stockyard")) for _sample in range(samples)
            ],
            "bulk read": [
                seconds(lambda: bulk_read(instance, source.parent)) for _sample in range(samples)
            ],
        }


def plays(count: int, items: int, ansible: str, samples: int) -> dict[str, list[float]]:
    """Measure the site playbook with an existing template, and the community's module for the same
    purpose.
    """
    results: dict[str, list[float]] = {"play": []}
    with Simulator() as vcenter, tempfile.TemporaryDirectory() as home:
        os.environ.update(vcenter.environment)
        user = VsphereController(Path(home) / "user", vcenter)

        def play(hosts: int) -> float:
            return run(lambda: user.run(SITE, "-e", f"yard={user.declare(hosts)}").output)

        for _sample in range(samples):
            play(0)
            results["play"].append(play(count))
    if ansible:
        results["community"] = [looped(count, items, ansible)]
    return results


def looped(count: int, items: int, ansible: str) -> float:
    """Return the time of a loop of so many clones, scaled from a loop of a few items.

    The start of Ansible counts once. The module reads all machines several times for each item: the
    simulator contains as many as half-way through the whole loop.
    """
    with Simulator(guests=False) as vcenter, tempfile.TemporaryDirectory() as home:
        os.environ.update(vcenter.environment)
        machines = [
            {"name": f"there-{number}", "uuid": "", "key": "k", "value": "v"}
            for number in range((count - items) // 2)
        ]
        vcenter.populate(vcenter.find(SOURCE), machines)
        start, duration = (
            community(vcenter, Path(home), 0, ansible),
            community(vcenter, Path(home), items, ansible),
        )
    return start + (duration - start) * count / items


def run(play: Callable[[], str]) -> float:
    begin = time.monotonic()
    output = play()
    duration = time.monotonic() - begin
    if "failed=0" not in output:
        raise SystemExit(output)
    return duration


def community(vcenter: Simulator, home: Path, items: int, ansible: str) -> float:
    """Return the time of so many clones by the community's module, one after the other, as it makes
    them.
    """
    options = {
        "hostname": vcenter.address,
        "port": vcenter.port,
        "username": vcenter.username,
        "password": "{{ lookup('ansible.builtin.env', 'VMWARE_PASSWORD') }}",
        "validate_certs": False,
        "parent_vm": SOURCE,
        "datacenter": "DC0",
        "datastore": "LocalDS_0",
        "folder": "/DC0/vm",
        "host": vcenter.find(SOURCE).runtime.host.name,
        "resource_pool": "Resources",
        "wait_vm_tools": False,
        "name": "community-{{ item }}",
    }
    task = {"name": "Clone", MODULE: options, "loop": list(range(items))}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}]
    (home / "community.yml").write_text(json.dumps(play))
    environment = {"HOME": str(home), "PATH": f"{ansible}/bin:/usr/bin:/bin", **vcenter.environment}
    argv = [f"{ansible}/bin/ansible-playbook", "-i", "localhost,", str(home / "community.yml")]

    def run_playbook() -> str:
        process = subprocess.run(
            argv, env=environment, cwd=home, check=False, capture_output=True, text=True
        )
        return process.stdout + process.stderr

    return run(run_playbook)
